from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Engine, inspect
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from tests.servers import Postgres
from trsp_jobs import db, service

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]


def test_the_models_match_the_migrations(postgres_url: str) -> None:
    command.check(db.alembic_config(postgres_url))


def test_down_and_up_again(postgres_url: str, engine: Engine) -> None:
    db.downgrade(postgres_url, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    db.upgrade(postgres_url)
    assert "jobs" in inspect(engine).get_table_names()
    command.check(db.alembic_config(postgres_url))


def test_several_upgrades_at_once_wait_for_one_another(postgres: Postgres) -> None:
    url = postgres.create("race")
    script = f"from trsp_jobs import db; db.upgrade({url!r})"
    running = [subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    command.check(db.alembic_config(url))
    postgres.drop("race")


def test_the_alembic_command_reads_the_environment(postgres: Postgres) -> None:
    url = postgres.create("command")
    program = str(Path(sys.executable).with_name("alembic"))
    environment = {**os.environ, "TRSP_DATABASE_URL": url}
    subprocess.run([program, "upgrade", "head"], cwd=ROOT, env=environment, check=True, capture_output=True)
    command.check(db.alembic_config(url))
    postgres.drop("command")
    del environment["TRSP_DATABASE_URL"]
    refused = subprocess.run(
        [program, "upgrade", "head"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert refused.returncode != 0
    assert "set TRSP_DATABASE_URL" in refused.stderr


def test_an_engine_survives_an_outage(postgres: Postgres, sessions: sessionmaker[Session]) -> None:
    with db.session_scope(sessions) as session:
        service.list_jobs(session)
    with postgres.outage(), pytest.raises(OperationalError), db.session_scope(sessions) as session:
        service.list_jobs(session)
    with db.session_scope(sessions) as session:
        assert service.list_jobs(session).items == []
