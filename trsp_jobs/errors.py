"""Every error that the domain of the service raises on purpose.

JobsError
├── JobNotFound             no job has this id
├── ArtifactNotFound        the job has no such file, or the store does not hold it
├── ResourceNotFound        there is no such schedule, slot, model or calibration set
├── LinkUnknown             the service has not signed this link
├── LinkEnded               the link expired, or its key or its file is gone
├── IllegalTransition       the job's status does not allow what was asked
├── WrongCursor             the cursor of a list is none, or belongs to another list
├── VersionConflict         somebody else changed it since it was read; nothing was done
├── KeyReused               another request was answered under this idempotency key
├── KeyInUse                a request under this idempotency key is still being answered
├── KeyNotFound             no key has this id
├── WebhookNotFound         no webhook, or no delivery of it, has this id
├── AddressRefused          nothing is sent to this address
├── QuotaExceeded           the key holds as much as it may; trying again later may help
├── Conflict                another state of things does not allow what was asked
├── LeaseLost               the writer no longer owns the attempt; nothing was written
├── StoreUnavailable        the artifact store does not answer; trying again may help
│   └── DamagedFile         the store gave other bytes than were stored
└── BrokerUnavailable       the ring did not reach the broker; housekeeping rings again
"""

from __future__ import annotations


class JobsError(Exception):
    """Base of all errors of the domain."""


class JobNotFound(JobsError):
    """No job has this id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job {job_id!r}")
        self.job_id = job_id

    def __reduce__(self) -> tuple[type[JobNotFound], tuple[str]]:
        return type(self), (self.job_id,)


class ArtifactNotFound(JobsError):
    """The job has no such file, or the store does not hold it."""

    def __init__(self, path: str) -> None:
        super().__init__(f"there is no file {path!r}")
        self.path = path

    def __reduce__(self) -> tuple[type[ArtifactNotFound], tuple[str]]:
        return type(self), (self.path,)


class LinkUnknown(JobsError):
    """The service has not signed this link."""


class LinkEnded(JobsError):
    """The link expired, or its key or its file is gone."""


class ResourceNotFound(JobsError):
    """There is no such schedule, slot, model or calibration set.

    Attributes:
        kind: What was looked for, in words.
        name: Its id or name.
    """

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"there is no {kind} {name!r}")
        self.kind = kind
        self.name = name

    def __reduce__(self) -> tuple[type[ResourceNotFound], tuple[str, str]]:
        return type(self), (self.kind, self.name)


class Conflict(JobsError):
    """Another state of things does not allow what was asked; the message says which and what helps."""


class VersionConflict(JobsError):
    """Somebody else changed it since it was read; nothing was done."""


class IllegalTransition(JobsError):
    """The job's status does not allow what was asked.

    Attributes:
        status: The status that the job has.
        verb: What was asked: `cancel`, `retry`, or the name of the wanted status.
    """

    def __init__(self, status: str, verb: str) -> None:
        super().__init__(f"a job that is {status} does not allow {verb!r}")
        self.status = status
        self.verb = verb

    def __reduce__(self) -> tuple[type[IllegalTransition], tuple[str, str]]:
        return type(self), (self.status, self.verb)


class WrongCursor(JobsError):
    """The cursor of a list is none, or belongs to another list."""


class KeyReused(JobsError):
    """Another request was answered under this idempotency key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the key {key!r} was used for another request less than a day ago")


class KeyInUse(JobsError):
    """A request under this idempotency key is still being answered."""

    def __init__(self, key: str) -> None:
        super().__init__(f"a request with the key {key!r} is still being answered")


class KeyNotFound(JobsError):
    """No key has this id."""


class WebhookNotFound(JobsError):
    """No webhook, or no delivery of it, has this id."""


class AddressRefused(JobsError):
    """Nothing is sent to this address."""


class QuotaExceeded(JobsError):
    """The key holds as much as it may; trying again later may help."""


class LeaseLost(JobsError):
    """The writer no longer owns the attempt; nothing was written."""

    def __init__(self, job_id: str, attempt: int) -> None:
        super().__init__(f"attempt {attempt} of job {job_id} no longer holds the job's lease")
        self.job_id = job_id
        self.attempt = attempt

    def __reduce__(self) -> tuple[type[LeaseLost], tuple[str, int]]:
        return type(self), (self.job_id, self.attempt)


class StoreUnavailable(JobsError):
    """The artifact store does not answer; trying again may help."""


class DamagedFile(StoreUnavailable):
    """The store gave other bytes than were stored."""

    def __init__(self, path: str, wanted: str, found: str) -> None:
        super().__init__(
            f"the store gave other bytes as {path!r} than were stored: SHA-256 {found}, not {wanted}"
        )
        self.path, self.wanted, self.found = path, wanted, found

    def __reduce__(self) -> tuple[type[DamagedFile], tuple[str, str, str]]:
        return type(self), (self.path, self.wanted, self.found)


class BrokerUnavailable(JobsError):
    """The ring did not reach the broker; housekeeping rings again."""
