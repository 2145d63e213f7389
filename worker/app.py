"""The Celery application: `celery -A worker.app worker`. Settings come from the environment.

A message is acknowledged early and may be lost or repeated; the job's row decides what is worked on.
"""

from __future__ import annotations

from typing import Any

from celery import Celery, signals

from trsp_jobs import logging
from trsp_jobs.dispatch import TRANSPORT_OPTIONS, CeleryDispatcher
from worker.draining import DrainFlag
from worker.node import SignOfLife, new_worker_id, register
from worker.runtime import make_runtime, read_settings

WORKER_ID = new_worker_id()
DRAINING = DrainFlag()

settings = read_settings()
app = Celery("trsp", broker=settings.broker_url, include=["worker.tasks"])
app.conf.update(
    accept_content=["json"],
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        name: value for name, value in TRANSPORT_OPTIONS.items() if name == "socket_connect_timeout"
    },
    task_acks_late=False,
    task_default_queue=settings.queue,
    task_ignore_result=True,
    task_serializer="json",
    task_send_sent_event=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_concurrency=1,
    worker_disable_prefetch=True,
    worker_enable_remote_control=False,
    worker_pool="prefork",
    worker_prefetch_multiplier=1,
    worker_send_task_events=False,
)
_signs: list[SignOfLife] = []


def _set_up_logging(**_: Any) -> None:
    logging.configure(settings, "worker")


def _register(**_: Any) -> None:
    register(settings, WORKER_ID)


def _appear(**_: Any) -> None:
    bell = CeleryDispatcher(settings.broker_url, queue=settings.queue)
    sign = SignOfLife(make_runtime(settings), bell, WORKER_ID)
    sign.start()
    _signs.append(sign)


def _drain(**_: Any) -> None:
    DRAINING.set()


def _disappear(**_: Any) -> None:
    while _signs:
        _signs.pop().stop()


signals.setup_logging.connect(_set_up_logging)
signals.worker_init.connect(_register)
signals.worker_ready.connect(_appear)
signals.worker_shutting_down.connect(_drain)
signals.worker_shutdown.connect(_disappear)
