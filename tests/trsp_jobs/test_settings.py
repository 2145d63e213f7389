from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from trsp_jobs.settings import Settings, source_policy

REQUIRED = {
    "TRSP_DATABASE_URL": "postgresql+psycopg://u:secret@h/d",
    "TRSP_BROKER_URL": "redis://h:6379/0",
    "TRSP_STORE_URL": "s3://bucket/prefix",
    "TRSP_DATA_DIR": "data",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_settings_come_from_the_environment(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("TRSP_FILE_ROOTS", os.pathsep.join([str(tmp_path / "a"), str(tmp_path / "b")]))
    environment.setenv("TRSP_LEASE_SECONDS", "7.5")
    settings = Settings()  # type: ignore[call-arg]
    assert settings.file_roots == [tmp_path / "a", tmp_path / "b"]
    assert settings.lease_seconds == 7.5
    assert settings.data_dir.is_absolute()
    assert settings.work_dir == settings.data_dir / "work"


def test_secrets_are_not_printed(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TRSP_API_KEY", "key-that-must-not-show")
    environment.setenv("TRSP_S3_SECRET_ACCESS_KEY", "secret-that-must-not-show")
    assert "must-not-show" not in repr(Settings())  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRSP_DATABASE_URL", "sqlite:///x.db"),
        ("TRSP_BROKER_URL", "memory://"),
        ("TRSP_STORE_URL", "relative/folder"),
        ("TRSP_LEASE_SECONDS", "0"),
        ("TRSP_MAX_ATTEMPTS", "0"),
        ("TRSP_PORT", "70000"),
    ],
)
def test_a_wrong_value_is_refused_by_name(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    environment.setenv(name, value)
    with pytest.raises(ValidationError, match=name.removeprefix("TRSP_").lower()):
        Settings()  # type: ignore[call-arg]


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_a_job_may_read_nothing_unless_folders_are_allowed(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    closed = source_policy(Settings())  # type: ignore[call-arg]
    assert closed.roots == ()
    assert not closed.allows(tmp_path)
    environment.setenv("TRSP_FILE_ROOTS", str(tmp_path))
    open_ = source_policy(Settings())  # type: ignore[call-arg]
    assert open_.allows(tmp_path / "model")
    assert not open_.allows(tmp_path.parent)
    assert not open_.hub_enabled
