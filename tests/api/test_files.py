"""Reports, files and logs: streamed, in ranges, with hashes."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, update

from api.errors import ApiError
from api.ranges import ByteRange, requested_range
from api.routes.logs import whole_characters
from tests.api.conftest import Api
from tests.api.work import claim, fail, say, succeed, tell
from trsp_core.progress import Progress
from trsp_jobs import service
from trsp_jobs.leases import JobError
from trsp_jobs.logs import stored_log
from trsp_jobs.models import Job
from trsp_jobs.store_keeping import remove_results


@pytest.fixture
def done(api: Api, tmp_path: Path) -> str:
    """Id of a job that succeeded with an example report and one larger file."""
    job = api.submit()
    folder = tmp_path / "result"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "weights ü.bin").write_bytes(bytes(range(256)) * 12_000)
    succeed(api, claim(api, job["id"]), folder)
    return str(job["id"])


def test_the_report_comes_as_json_page_and_table(api: Api, done: str) -> None:
    address = f"/v1/jobs/{done}/report"
    report = api.client.get(address)
    assert report.headers["content-type"] == "application/json"
    assert len(report.json()["plan"]["removed_layers"]) == 8
    page = api.client.get(address, params={"format": "html"})
    assert page.headers["content-type"].startswith("text/html")
    assert "sandbox" in page.headers["content-security-policy"]
    assert "script-src" not in page.headers["content-security-policy"]
    assert page.headers["content-disposition"].startswith("inline")
    assert api.client.get(address, params={"format": "csv"}).headers["content-type"].startswith("text/csv")
    assert api.client.get(address, params={"format": "pdf"}).status_code == 422


def test_the_report_of_an_unfinished_job_says_when_it_comes(api: Api) -> None:
    answer = api.client.get(f"/v1/jobs/{api.submit()['id']}/report")
    assert answer.status_code == 404
    assert "is queued" in answer.json()["detail"]


def test_files_are_listed_with_size_and_hash_and_arrive_whole(api: Api, done: str) -> None:
    items = {item["path"]: item for item in api.client.get(f"/v1/jobs/{done}/artifacts").json()["items"]}
    assert set(items) == {"report.json", "report.html", "report.csv", "model/weights ü.bin"}
    for item in items.values():
        answer = api.client.get(item["href"])
        assert hashlib.sha256(answer.content).hexdigest() == item["sha256"]
        assert len(answer.content) == item["size"] == int(answer.headers["content-length"])
    disposition = api.client.get(items["model/weights ü.bin"]["href"]).headers["content-disposition"]
    assert disposition == "attachment; filename*=UTF-8''weights%20%C3%BC.bin"


def test_ranges_and_conditions(api: Api, done: str) -> None:
    address = f"/v1/jobs/{done}/artifacts/model/weights ü.bin"
    whole = api.client.get(address)
    tag = whole.headers["etag"]
    part = api.client.get(address, headers={"Range": "bytes=1000000-1999999"})
    assert (part.status_code, part.content) == (206, whole.content[1_000_000:2_000_000])
    assert part.headers["content-range"] == f"bytes 1000000-1999999/{len(whole.content)}"
    tail = api.client.get(address, headers={"Range": "bytes=-10", "If-Range": tag})
    assert (tail.status_code, tail.content) == (206, whole.content[-10:])
    stale = api.client.get(address, headers={"Range": "bytes=-10", "If-Range": '"other"'})
    assert (stale.status_code, len(stale.content)) == (200, len(whole.content))
    unchanged = api.client.get(address, headers={"If-None-Match": tag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    beyond = api.client.get(address, headers={"Range": "bytes=99999999-"})
    assert beyond.status_code == 416
    assert beyond.headers["content-range"] == f"bytes */{len(whole.content)}"
    head = api.client.head(address)
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", tag)
    assert int(head.headers["content-length"]) == len(whole.content)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", ByteRange(0, 1)),
        ("bytes=5-", ByteRange(5, 10)),
        ("bytes=-3", ByteRange(7, 10)),
        ("bytes=-30", ByteRange(0, 10)),
        ("bytes=2-99", ByteRange(2, 10)),
        ("bytes=0-1,3-4", None),
        ("bytes=4-2", None),
        ("lines=1-2", None),
        ("bytes=-", None),
        ("", None),
    ],
)
def test_what_a_range_header_asks_for(header: str, expected: ByteRange | None) -> None:
    assert requested_range({"range": header} if header else {}, '"t"', 10) == expected


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=-0", "bytes=11-12"])
def test_a_range_outside_of_the_file(header: str) -> None:
    with pytest.raises(ApiError) as caught:
        requested_range({"range": header}, '"t"', 10)
    assert caught.value.status_code == 416


@pytest.mark.parametrize(
    "path",
    ["nothing", "../x", "%2e%2e/x", "x%00y", "\\", "..%2f..%2fetc%2fpasswd", "%2e%2e%2f%2e%2e%2fx",
     "....//report.json", "%252e%252e%252fx", "..%5c..%5cx", "..%c0%af..%c0%afx", "%2fetc%2fpasswd", "//etc/passwd",
     "file:%2f%2f%2fetc%2fpasswd", "report.json%2f..%2f..%2fx", "./report.json%00.html", "report.json%20",
     "REPORT.JSON", "report.json/", "%00", "%ff%fe", "a" * 4000, "%F0%9F%92%A9"],
)  # fmt: skip
def test_a_file_that_is_not_the_jobs_is_404(api: Api, done: str, path: str) -> None:
    answer = api.client.get(f"/v1/jobs/{done}/artifacts/{path}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_file_that_the_store_lost_is_a_problem_and_no_torn_stream(api: Api, done: str) -> None:
    api.store.delete(f"jobs/{done}")
    answer = api.client.get(f"/v1/jobs/{done}/artifacts/report.json")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/artifact-not-found")


def test_a_log_is_read_by_offset_while_it_grows(api: Api) -> None:
    job = api.submit()
    address = f"/v1/jobs/{job['id']}/logs"
    before = api.client.get(address)
    assert (before.text, before.headers["log-complete"]) == ("", "false")
    held = claim(api, job["id"])
    tell(api, held, Progress("resolve", 0, 1, 0.0))
    text = "one ü\ntwo ü\n".encode()
    say(api, held, 0, text[:-2])
    first = api.client.get(address)
    assert (first.text, first.headers["log-complete"]) == ("one ü\ntwo ", "false")
    say(api, held, len(text) - 2, text[-2:])
    offset = first.headers["log-next-offset"]
    second = api.client.get(address, params={"offset": offset})
    assert second.text == "ü\n"
    fail(api, held, JobError("x", "broken"))
    last = api.client.get(address, params={"offset": second.headers["log-next-offset"], "attempt": 1})
    assert (last.text, last.headers["log-complete"]) == ("", "true")
    assert api.client.get(address, params={"attempt": 2}).status_code == 404


def test_a_stored_log_is_read_at_the_same_offsets(api: Api, tmp_path: Path) -> None:
    job = api.submit()
    held = claim(api, job["id"])
    say(api, held, 0, b"one\ntwo\n")
    fail(api, held, JobError("x", "broken"))
    address = f"/v1/jobs/{job['id']}/logs"
    before = api.client.get(address, params={"offset": 4})
    (tmp_path / "log").write_bytes(b"one\ntwo\n")
    api.store.put_file(stored_log(job["id"], 1), tmp_path / "log")
    with api.services.session() as session:
        service.forget_log(session, job["id"], [1])
    after = api.client.get(address, params={"offset": 4})
    assert before.text == after.text == "two\n"
    assert after.headers["log-complete"] == "true"


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        (b"", 0),
        (b"abc", 3),
        ("ü".encode(), 2),
        ("aü".encode()[:2], 1),
        ("€".encode()[:2], 0),
        ("😀".encode()[:3], 0),
    ],
)
def test_characters_are_never_cut(data: bytes, kept: int) -> None:
    assert whole_characters(data) == data[:kept]


def test_files_that_were_kept_long_enough_are_said_to_be_gone(api: Api, done: str) -> None:
    with api.services.session() as session:
        session.execute(update(Job).values(finished_at=func.now() - timedelta(days=8)))
    assert remove_results(api.services.sessions, api.store, 7) == [done]
    answer = api.client.get(f"/v1/jobs/{done}/report")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/artifact-not-found")
    assert "kept long enough" in answer.json()["detail"]
    job = api.client.get(f"/v1/jobs/{done}").json()
    assert (job["status"], job["files_removed_at"] is None) == ("succeeded", False)
    assert job["result"]["removed_layers"]
    assert api.client.get(f"/v1/jobs/{done}/artifacts").json() == {"items": []}
