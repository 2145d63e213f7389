"""The doorbell: tells the workers through the broker that a job waits. A ring may be lost or repeated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from trsp_jobs.errors import BrokerUnavailable

TASK_NAME = "trsp.run_job"
_SOCKET_SECONDS = 2

TRANSPORT_OPTIONS: Mapping[str, Any] = {
    "socket_connect_timeout": _SOCKET_SECONDS,
    "socket_timeout": _SOCKET_SECONDS,
    "max_retries": 0,
}


class Dispatcher(Protocol):
    """Rings for a job."""

    def ring(self, job_id: str) -> None:
        """Tell the workers that a job waits.

        Raises:
            BrokerUnavailable: If the ring did not reach the broker.
        """


class CeleryDispatcher:
    """Rings by a Celery message that holds the job's id and nothing else."""

    def __init__(self, broker_url: str, *, queue: str = "trsp") -> None:
        self._queue = queue
        self._app = Celery("trsp", broker=broker_url, set_as_current=False)
        self._app.conf.update(
            task_serializer="json",
            task_ignore_result=True,
            task_publish_retry=False,
            broker_connection_timeout=_SOCKET_SECONDS,
            broker_connection_retry=False,
            broker_transport_options=dict(TRANSPORT_OPTIONS),
            task_default_queue=queue,
        )

    def ring(self, job_id: str, *, passed: int = 0) -> None:
        """Tell the workers that a job waits; answers within a few seconds either way.

        Args:
            job_id: The job.
            passed: How often workers that could not do it have passed the ring on.

        Raises:
            BrokerUnavailable: If the ring did not reach the broker.
        """
        arguments = [job_id, passed] if passed else [job_id]
        try:
            self._app.send_task(TASK_NAME, args=arguments, queue=self._queue, retry=False)
        except (OperationalError, RedisError, OSError) as error:
            raise BrokerUnavailable(f"the broker does not answer: {error}") from error

    def pending(self) -> int:
        """Return how many rings wait in the broker.

        Raises:
            BrokerUnavailable: If it does not answer.
        """
        try:
            with self._app.connection_for_write() as connection:
                channel = connection.default_channel
                return int(channel.queue_declare(queue=self._queue).message_count)
        except (OperationalError, RedisError, OSError) as error:
            raise BrokerUnavailable(f"the broker does not answer: {error}") from error

    def close(self) -> None:
        """Close the connections to the broker."""
        self._app.close()
