from __future__ import annotations

import re
import time

from trsp_jobs.ids import new_job_id


def test_ids_have_their_form_and_sort_by_time() -> None:
    first = new_job_id()
    time.sleep(0.002)
    second = new_job_id()
    assert re.fullmatch(r"job_[0-9a-hjkmnp-tv-z]{26}", first)
    assert first < second


def test_ids_of_one_moment_differ() -> None:
    assert len({new_job_id() for _ in range(1000)}) == 1000
