"""What a job should be, told apart from the service: a few fields and the rules by which they change."""

from __future__ import annotations

from dataclasses import dataclass, field

HELD = ("starting", "running", "finalizing", "canceling")
ENDED = ("succeeded", "failed", "canceled", "timed_out")


class Refused(Exception):
    """The job's status does not allow it."""


class Lost(Exception):
    """The claim holds no longer."""


@dataclass(frozen=True)
class Ticket:
    """What a worker got when it claimed."""

    job_id: str
    attempt: int
    owner: str


@dataclass
class Model:
    """One job.

    Attributes:
        moves: Every status that it had, in order; a job that is taken again has it twice.
        told: How many events it has.
        outcomes: How its attempts ended, None for one that goes on.
        files: Numbers of the attempts whose files are published, one for each file.
        lapsed: Whether its lease has run out unseen.
        queue_late, run_late: Whether the deadline has passed.
    """

    job_id: str
    most_crashes: int
    status: str = "queued"
    moves: list[str] = field(default_factory=lambda: ["queued"])
    told: int = 1
    attempt: int = 0
    owner: str | None = None
    crashes: int = 0
    outcomes: list[str | None] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    lapsed: bool = False
    started: bool = False
    queue_late: bool = False
    run_late: bool = False
    fresh_after: int = 0

    def _move(self, status: str) -> None:
        self.status = status
        self.moves.append(status)
        self.told += 1
        if status not in HELD:
            self.owner, self.lapsed = None, False

    def _end(self, outcome: str, status: str) -> None:
        self.outcomes[-1] = outcome
        self._move(status)

    def _hold(self, ticket: Ticket) -> None:
        if self.status not in HELD or (ticket.attempt, ticket.owner) != (self.attempt, self.owner):
            raise Lost

    def claim(self, owner: str) -> Ticket | None:
        if self.status != "queued":
            return None
        self.attempt += 1
        self.owner = owner
        self.started = True
        self.outcomes.append(None)
        self._move("starting")
        return Ticket(self.job_id, self.attempt, owner)

    def heartbeat(self, ticket: Ticket) -> None:
        self._hold(ticket)
        self.lapsed = False

    def orders(self, ticket: Ticket) -> None:
        self._hold(ticket)

    def progress(self, ticket: Ticket, events: int) -> None:
        self._hold(ticket)
        if self.status == "starting":
            self._move("running")
        self.told += events

    def explain(self, ticket: Ticket) -> None:
        self._hold(ticket)
        self.moves.append(self.status)
        self.told += 1

    def finalize(self, ticket: Ticket) -> None:
        self._hold(ticket)
        if self.status == "canceling":
            raise Refused
        if self.status != "finalizing":
            self._move("finalizing")

    def succeed(self, ticket: Ticket, files: int) -> None:
        mine = (ticket.attempt, "succeeded") == (self.attempt, self.status)
        if mine and self.outcomes[-1] == "succeeded":
            return
        self._hold(ticket)
        if self.status != "finalizing":
            raise Refused
        self.files = [self.attempt] * files
        self._end("succeeded", "succeeded")

    def fail(self, ticket: Ticket, again: bool) -> None:
        self._hold(ticket)
        self._close("crashed" if again else "failed", again)

    def _close(self, outcome: str, again: bool) -> None:
        if self.status == "canceling":
            self._end(outcome, "canceled")
            return
        self.crashes += again
        self._end(outcome, "queued" if again and self.crashes < self.most_crashes else "failed")

    def confirm(self, ticket: Ticket) -> None:
        self._hold(ticket)
        if self.status != "canceling":
            raise Refused
        self._end("canceled", "canceled")

    def time_out(self, ticket: Ticket, files: int) -> None:
        self._hold(ticket)
        if self.status == "canceling":
            self._end("canceled", "canceled")
        elif self.status == "finalizing":
            raise Refused
        else:
            self.files = [self.attempt] * files
            self._end("timed_out", "timed_out")

    def hand_over(self, ticket: Ticket) -> None:
        self._hold(ticket)
        if self.status == "canceling":
            self._end("canceled", "canceled")
        else:
            self._end("handed_over", "queued")

    def cancel(self) -> None:
        if self.status in ("canceled", "canceling"):
            return
        if self.status in ENDED:
            raise Refused
        self._move("canceled" if self.status == "queued" else "canceling")

    def retry(self, from_scratch: bool) -> None:
        if self.status not in ENDED or self.status == "succeeded":
            raise Refused
        self.crashes = 0
        self.started = self.queue_late = self.run_late = False
        self.fresh_after = self.attempt if from_scratch else self.fresh_after
        self._move("queued")

    def remove(self) -> None:
        if self.status not in ENDED:
            raise Refused

    def expire(self) -> bool:
        if not self.lapsed:
            return False
        self._close("lease_lost", again=True)
        return True

    def time_out_queued(self) -> bool:
        late = self.run_late if self.started else self.queue_late
        if self.status != "queued" or not late:
            return False
        self._move("timed_out")
        return True
