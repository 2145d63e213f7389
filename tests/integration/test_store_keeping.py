"""The store held against the rows, on a folder and on S3: what goes, what stays, what is told."""

from __future__ import annotations

import secrets
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, update
from sqlalchemy.orm import Session, sessionmaker

from tests.servers import S3Server
from tests.worker.conftest import Bench, bench, worker_settings
from trsp_jobs import db, service, slots, store_repository
from trsp_jobs.errors import Conflict
from trsp_jobs.logs import stored_log
from trsp_jobs.models import Job
from trsp_jobs.storage import ArtifactStore, open_store
from worker.storekeeper import Storekeeper

__all__ = ["bench", "worker_settings"]

pytestmark = pytest.mark.integration


@pytest.fixture(params=["folder", "rclone", "moto"])
def place(request: pytest.FixtureRequest, bench: Bench) -> Bench:
    """A machine on one of the stores; files are orphans at once."""
    changes = {"store_grace_seconds": 0, "store_sweep_seconds": 3600}
    bench.settings = bench.settings.model_copy(update=changes)
    if request.param != "folder":
        server: S3Server = request.getfixturevalue(request.param)
        bench.store = open_store(f"{server.store_url}/{secrets.token_hex(4)}", server.access)
    return bench


def keeper(place: Bench, **changes: object) -> Storekeeper:
    return Storekeeper(place.settings.model_copy(update=changes), place.sessions, place.store)


def put(store: ArtifactStore, tmp_path: Path, path: str, content: bytes = b"1") -> str:
    file = tmp_path / secrets.token_hex(4)
    file.write_bytes(content)
    store.put_file(path, file)
    return path


def paths(place: Bench, prefix: str = "jobs") -> set[str]:
    return {item.path for item in place.store.list(prefix)}


def done(place: Bench) -> str:
    job_id = place.submit("ok", steps=1)
    place.run(job_id)
    assert place.job(job_id).status == "succeeded"
    return job_id


def end_days_ago(place: Bench, job_id: str, days: float) -> None:
    with db.session_scope(place.sessions) as session:
        session.execute(
            update(Job).where(Job.id == job_id).values(finished_at=func.now() - timedelta(days=days))
        )


def test_what_no_row_names_goes_and_everything_else_stays(place: Bench, tmp_path: Path) -> None:
    result = done(place)
    failed = place.submit("crash", steps=1)
    while place.run(failed) is not None:
        continue
    kept = paths(place)
    assert {stored_log(failed, number) for number in (1, 2, 3)} <= kept
    waiting = place.submit("ok")
    kept.add(put(place.store, tmp_path, f"jobs/{waiting}/attempts/1/model/half.safetensors"))
    kept.add(put(place.store, tmp_path, f"jobs/{failed}/checkpoints/3/manifest.json"))
    orphans = {
        put(place.store, tmp_path, f"jobs/{result}/attempts/0/report.json"),
        put(place.store, tmp_path, f"jobs/{result}/attempts/1/report.json.old"),
        put(place.store, tmp_path, f"jobs/{result}/checkpoints/1/manifest.json"),
        put(place.store, tmp_path, "jobs/job_nobody_knows/attempts/1/log.txt"),
    }
    texts = put(place.store, tmp_path, "calibration-sets/cal_nobody/text")
    keeper(place, store_grace_seconds=3600).compare()
    assert paths(place) == kept | orphans
    keeper(place).compare()
    assert paths(place) == kept
    assert texts not in paths(place, "calibration-sets")
    keeper(place, scratch_keep_seconds=0).compare()
    assert paths(place) == {path for path in kept if "checkpoints" not in path}


def test_a_row_whose_file_is_gone_is_told_and_told_again_when_it_is_back(
    place: Bench, tmp_path: Path
) -> None:
    job_id, other = done(place), done(place)
    plan = place.artifacts(job_id)["plan.json"].store_path
    cut = place.artifacts(job_id)["report.json"].store_path
    place.store.delete_files([plan])
    put(place.store, tmp_path, cut, b"{")
    place.store.delete(f"jobs/{other}")
    keeper(place).compare()
    missing = {name for name, row in place.artifacts(job_id).items() if row.missing_since}
    assert missing == {"plan.json", "report.json"}
    assert all(row.missing_since for row in place.artifacts(other).values())
    since = place.artifacts(job_id)["report.json"].missing_since
    put(place.store, tmp_path, plan, b"{}")
    keeper(place).compare()
    missing = {name: row.missing_since for name, row in place.artifacts(job_id).items() if row.missing_since}
    assert missing == {"report.json": since}


def test_old_results_lose_their_files_and_stay_in_the_list(place: Bench) -> None:
    old, recent, published = done(place), done(place), done(place)
    waiting = place.submit("ok")
    for job_id in (old, published):
        end_days_ago(place, job_id, 8)
    with db.session_scope(place.sessions) as session:
        slots.publish(session, published, "small", {}, by="somebody")
    keeper(place).remove_old()
    assert place.job(old).files_removed_at is None
    keeper(place, result_keep_days=7).remove_old()
    job = place.job(old)
    assert job.files_removed_at is not None
    assert job.result is not None
    assert (job.status, place.artifacts(old), paths(place, f"jobs/{old}")) == ("succeeded", {}, set())
    for job_id in (recent, published):
        assert place.artifacts(job_id)
        assert place.job(job_id).files_removed_at is None
    assert place.job(waiting).files_removed_at is None
    version = job.version
    keeper(place, result_keep_days=7).remove_old()
    assert place.job(old).version == version


def test_a_job_that_lost_its_files_can_be_retried(bench: Bench) -> None:
    job_id = bench.submit("crash", steps=1)
    while bench.run(job_id) is not None:
        continue
    end_days_ago(bench, job_id, 8)
    keeper(bench, result_keep_days=7).remove_old()
    assert bench.job(job_id).files_removed_at is not None
    with db.session_scope(bench.sessions) as session:
        service.retry(session, job_id)
    assert bench.job(job_id).files_removed_at is None


def test_of_many_nodes_one_compares(bench: Bench, sessions: sessionmaker[Session]) -> None:
    found: list[bool] = []

    def take() -> None:
        with db.session_scope(sessions) as session:
            found.append(store_repository.take_turn(session, "a test", 3600))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [False] * 7 + [True]
    with db.session_scope(sessions) as session:
        assert store_repository.take_turn(session, "a test", 0)


def test_a_round_does_both_once_its_turn_has_come(bench: Bench, tmp_path: Path) -> None:
    old = done(bench)
    end_days_ago(bench, old, 8)
    put(bench.store, tmp_path, "jobs/job_nobody/attempts/1/log.txt")
    changes = {"store_grace_seconds": 0, "store_sweep_seconds": 3600}
    for name, changed in (("first", {}), ("second", {"result_keep_days": 7})):
        keeper(bench, **changes, **changed).round()
        assert paths(bench, "jobs/job_nobody") == set(), name
        assert bench.job(old).files_removed_at is None
    keeper(bench, **{**changes, "store_sweep_seconds": 0.001}, result_keep_days=7).round()
    assert bench.job(old).files_removed_at is not None


def test_several_keepers_at_once_remove_without_errors(place: Bench, tmp_path: Path) -> None:
    for number in range(30):
        put(place.store, tmp_path, f"jobs/job_{number}/attempts/1/log.txt")
    errors: list[Exception] = []

    def compare() -> None:
        try:
            keeper(place).compare()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=compare) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert paths(place) == set()


def test_a_deleted_jobs_files_go_even_if_the_delete_was_cut_off(place: Bench) -> None:
    job_id = done(place)
    with db.session_scope(place.sessions) as session:
        service.remove(session, job_id)
    assert paths(place, f"jobs/{job_id}")
    keeper(place).compare()
    assert paths(place, f"jobs/{job_id}") == set()


def test_a_result_that_a_slot_can_go_back_to_is_not_deleted(bench: Bench) -> None:
    first, second = done(bench), done(bench)
    with db.session_scope(bench.sessions) as session:
        for job_id in (first, second):
            slots.publish(session, job_id, "small", {}, by="somebody")
    for job_id in (first, second):
        with (
            pytest.raises(Conflict, match=r"the slot small can go back to"),
            db.session_scope(bench.sessions) as session,
        ):
            service.remove(session, job_id)
    with db.session_scope(bench.sessions) as session:
        slots.rollback(session, second, None, by="somebody")
        service.remove(session, second)


def test_the_thread_goes_on_when_the_store_is_back(bench: Bench) -> None:
    real, away = bench.store.folders, [True]

    def folders(prefix: str) -> object:
        if away[0]:
            raise OSError("the disk is gone")
        return real(prefix)

    bench.store.folders = folders  # type: ignore[method-assign, assignment]
    orphan = bench.settings.data_dir / "x"
    orphan.parent.mkdir(parents=True, exist_ok=True)
    orphan.write_bytes(b"1")
    bench.store.put_file("jobs/job_x/f", orphan)
    ended = threading.Event()
    changes = {"store_grace_seconds": 0, "store_sweep_seconds": 0.01, "housekeeping_seconds": 0.05}
    thread = threading.Thread(target=keeper(bench, **changes).run, args=(ended,))
    thread.start()
    away[0] = False
    bench.wait_for(lambda: not paths(bench))
    ended.set()
    thread.join(10)
    assert not thread.is_alive()
