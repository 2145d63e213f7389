from __future__ import annotations

import json
import time

import pytest
import redis

from tests.servers import Valkey, free_port
from trsp_jobs.dispatch import TASK_NAME, CeleryDispatcher
from trsp_jobs.errors import BrokerUnavailable
from trsp_jobs.testing import RecordingDispatcher

pytestmark = pytest.mark.integration


def test_a_ring_holds_the_id_and_nothing_else(valkey_url: str) -> None:
    bell = CeleryDispatcher(valkey_url, queue="q")
    assert bell.pending() == 0
    bell.ring("job_1")
    bell.ring("job_2")
    assert bell.pending() == 2
    bell.close()
    with redis.Redis.from_url(valkey_url) as client:
        message = json.loads(client.rpop("q"))  # type: ignore[arg-type]
    assert message["headers"]["task"] == TASK_NAME
    assert message["headers"]["argsrepr"] == "['job_1']"
    assert message["content-type"] == "application/json"


def test_a_broker_that_is_away_is_told_soon_and_used_again_when_it_is_back(valkey: Valkey) -> None:
    bell = CeleryDispatcher(valkey.url, queue="q")
    bell.ring("job_1")
    valkey.stop()
    try:
        began = time.monotonic()
        for act in (lambda: bell.ring("job_2"), bell.pending):
            with pytest.raises(BrokerUnavailable, match="does not answer"):
                act()
        assert time.monotonic() - began < 5
    finally:
        valkey.start()
    bell.ring("job_3")
    assert bell.pending() == 1
    bell.close()


def test_a_broker_that_never_was_is_told() -> None:
    bell = CeleryDispatcher(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(BrokerUnavailable):
        bell.ring("job_1")


def test_the_fake_rings_as_the_real_one_does() -> None:
    bell = RecordingDispatcher()
    bell.ring("job_1")
    assert (bell.rung, bell.pending()) == (["job_1"], 1)
    bell.down = True
    for act in (lambda: bell.ring("job_2"), bell.pending):
        with pytest.raises(BrokerUnavailable):
            act()
