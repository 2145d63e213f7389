"""Everything that an operator can set, in one class.

Each field is read from the environment variable `TRSP_` + its name in capitals. Secrets are never printed,
and none of them reaches the child process that works on a model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from trsp_core.sources.policy import SourcePolicy, split_roots


class Settings(BaseSettings):
    """The operator's settings; frozen, so that no part of a process sees other ones than the rest."""

    model_config = SettingsConfigDict(env_prefix="TRSP_", extra="ignore", frozen=True)

    database_url: str = Field(
        description="PostgreSQL, as postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE.",
        pattern=r"^postgresql\+psycopg://",
    )
    broker_url: str = Field(
        description="Redis or Valkey, as redis://HOST:PORT/NUMBER.",
        pattern=r"^(rediss?|redis\+socket)://",
    )
    store_url: str = Field(
        description="Where results are kept: file:///FOLDER or s3://BUCKET/PREFIX.",
        pattern=r"^(file:///|s3://.)",
    )
    data_dir: Path = Field(
        description="This machine's own folder: scratch in work/, downloaded and converted models in cache/."
    )

    s3_endpoint: str | None = Field(None, description="Address of an S3 server other than Amazon's.")
    s3_region: str = Field("us-east-1", description="Region of the bucket.")
    s3_access_key_id: str | None = Field(None, description="Name of the S3 key.")
    s3_secret_access_key: SecretStr | None = Field(None, description="The S3 key's secret.")

    file_roots: Annotated[list[Path], NoDecode] = Field(
        default_factory=list,
        description="Folders that a job's model folders and gguf:, text:, jsonl: and parquet: files must "
        "lie in; several are joined by the path separator. Without it a job may read none; commands that work "
        "without a service read the same variable, and without it any file.",
    )
    hub_enabled: bool = Field(
        False, description="Whether jobs may load models and data sets from the Hugging Face hub."
    )
    s3_enabled: bool = Field(
        False,
        description="Whether jobs may name models in S3, s3://BUCKET/PREFIX. API and workers read them with "
        "the credentials in their AWS_* variables; a job's own process gets none.",
    )

    datasets: Path | None = Field(
        None,
        description="Folder with local copies of the hub's data sets (wikitext2/, ptb/, …), tried first.",
    )

    registered_models_only: bool = Field(
        False, description="Whether jobs may use registered models only: an allow-list that /v1/models fills."
    )
    upload_limit_bytes: int = Field(
        1 << 30, description="Largest calibration text that may be uploaded, bytes.", ge=1
    )

    host: str = Field("127.0.0.1", description="Address that the API binds.")
    port: int = Field(8000, description="Port that the API binds.", ge=0, le=65535)
    connection_limit: int = Field(
        2000,
        description="Connections that the API serves at a time, open event streams among them; one more is told "
        "to come later (503).",
        ge=1,
    )
    public_url: str | None = Field(None, description="Address under which people reach the API.")
    secret: SecretStr | None = Field(
        None,
        description="The service's own secret, the same for every process: keys are stored as HMACs under it, "
        "webhooks and the dashboard's sessions are signed with it. Changing it ends all of them at once.",
        min_length=16,
    )
    former_secret: SecretStr | None = Field(
        None,
        description="The secret before TRSP_SECRET, for the time after a change: links that were signed with it "
        "download until they expire. Nothing else takes it.",
        min_length=16,
    )
    api_key: SecretStr | None = Field(
        None,
        description="The operator's key: every right, on the resources of every owner. Needed until there is "
        "a key with keys:admin in the database.",
        min_length=1,
    )
    webhook_allow_private: bool = Field(
        False,
        description="Whether webhooks may go to this machine and to private networks, and without TLS; for "
        "tests and for networks of one's own.",
    )

    queue: str = Field("trsp", description="Name of the broker's queue.", min_length=1)
    lease_seconds: float = Field(
        30,
        description="How long a silent worker owns a job, seconds; renewed every third of it.",
        gt=0,
    )
    max_attempts: int = Field(
        3, description="Attempts that may end in a crash or a lost worker before the job fails.", ge=1
    )
    cancel_grace_seconds: float = Field(
        3,
        description="Time from the polite stop signal to the hard one, seconds. With the second in which a worker "
        "hears of a cancel, a process is gone within five; what is lost are the steps since its last checkpoint.",
        ge=0,
    )
    worker_device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="What this machine's workers offer; auto looks for an NVIDIA device."
    )
    worker_memory_bytes: int | None = Field(
        None,
        description="Memory that a job of this worker may take, bytes; jobs that need more are left to others. "
        "Unless set it is the GPU's memory, else the machine's; set it where several workers share a machine.",
        ge=1,
    )
    worker_seen_seconds: float = Field(
        15, description="Time between a worker's signs of life, seconds; it counts as gone after three.", gt=0
    )
    child_memory_bytes: int | None = Field(
        None,
        description="Address space that one job's process may take, bytes (RLIMIT_AS); no limit unless set.",
    )
    child_file_bytes: int | None = Field(
        None, description="Largest file that one job may write, bytes (RLIMIT_FSIZE); no limit unless set."
    )
    log_limit_bytes: int = Field(
        5_000_000,
        description="Most that is kept of one attempt's output, bytes; the rest is counted.",
        ge=1000,
    )
    scratch_keep_seconds: float = Field(
        86_400, description="How long a job's checkpoint is kept for a retry after it ended, seconds.", ge=0
    )
    checkpoint_store: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Whether the checkpoint of a job that is handed over or has crashed is put into the store, "
        "so that a worker of another machine goes on from it; auto does so where the store is S3.",
    )
    result_keep_days: float | None = Field(
        None,
        description="Days after its end at which a job's files are removed, unless a slot can go back to it; the "
        "job stays in the lists. Never unless set.",
        gt=0,
    )
    store_sweep_seconds: float = Field(
        3600,
        description="Time between two comparisons of the store with the database, seconds; one node does it.",
        gt=0,
    )
    store_grace_seconds: float = Field(
        86_400,
        description="Age from which files in the store that no row names, and uploads that never came to an end, "
        "are removed, seconds.",
        ge=0,
    )
    housekeeping_seconds: float = Field(
        5, description="Time between two rounds of housekeeping, seconds.", gt=0
    )
    ring_again_seconds: float = Field(
        60, description="Time after which a job that still waits is rung again, seconds.", gt=0
    )

    misfire_seconds: float = Field(
        60,
        description="How late a schedule's time may be dealt with without counting as missed, seconds.",
        ge=0,
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least weight of what is logged."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto is console on a terminal, else JSON."
    )

    @field_validator("file_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: Any) -> Any:
        return list(split_roots(value)) if isinstance(value, str) else value

    @field_validator("data_dir", "file_roots")
    @classmethod
    def _absolute(cls, value: Any) -> Any:
        return [item.resolve() for item in value] if isinstance(value, list) else value.resolve()

    @property
    def stores_checkpoints(self) -> bool:
        """Whether checkpoints are put into the store for other machines."""
        return self.checkpoint_store == "always" or (
            self.checkpoint_store == "auto" and self.store_url.startswith("s3:")
        )

    @property
    def work_dir(self) -> Path:
        """Folder of the scratch folders, one a job."""
        return self.data_dir / "work"

    @property
    def upload_dir(self) -> Path:
        """Folder of texts on their way into the store."""
        return self.data_dir / "uploads"

    @property
    def cache_dir(self) -> Path:
        """Folder of downloaded and converted models."""
        return self.data_dir / "cache"


def source_policy(settings: Settings) -> SourcePolicy:
    """Return which models and texts a job may use: nothing but what the settings allow."""
    return SourcePolicy(
        hub_enabled=settings.hub_enabled,
        roots=tuple(settings.file_roots),
        cache_dir=settings.cache_dir,
        dataset_root=settings.datasets,
        s3_enabled=settings.s3_enabled,
    )
