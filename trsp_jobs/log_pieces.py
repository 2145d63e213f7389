"""The log of an attempt while it is not in the store yet: pieces in the database, so that any API sees them.

The worker adds a piece for what the child has said since the last one; the insert tells whoever listens.
Once the whole log lies in the store and the attempt has ended, the pieces go. Offsets are those of the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, ColumnElement, ForeignKey, LargeBinary, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from trsp_jobs.models import Base

PIECE_BYTES = 64 * 1024


class LogPiece(Base):
    """Bytes of an attempt's log from `start` on, at most `PIECE_BYTES`."""

    __tablename__ = "log_pieces"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    data: Mapped[bytes] = mapped_column(LargeBinary)


@dataclass(frozen=True, slots=True)
class Said:
    """What a child said: bytes, and where in its log they stand."""

    start: int
    data: bytes

    @property
    def end(self) -> int:
        """Where the next bytes will stand."""
        return self.start + len(self.data)


def add(session: Session, job_id: str, attempt: int, pieces: Sequence[Said]) -> None:
    """Add pieces; one that is there already is passed over, since a commit's answer may get lost."""
    rows = [{"job_id": job_id, "attempt": attempt, "start": item.start, "data": item.data} for item in pieces]
    session.execute(insert(LogPiece).values(rows).on_conflict_do_nothing())


def size(session: Session, job_id: str, attempt: int) -> int | None:
    """Return how many bytes of the log the pieces hold; None if there are no pieces."""
    query = select(func.max(LogPiece.start + func.length(LogPiece.data)))
    return session.scalar(query.where(*_of(job_id, attempt)))


def read(session: Session, job_id: str, attempt: int, offset: int, limit: int) -> bytes:
    """Return up to `limit` bytes of the log from `offset` on."""
    query = (
        select(LogPiece.start, LogPiece.data)
        .where(*_of(job_id, attempt), LogPiece.start > offset - PIECE_BYTES, LogPiece.start < offset + limit)
        .order_by(LogPiece.start)
    )
    rows = session.execute(query).all()
    if not rows:
        return b""
    return b"".join(data for _, data in rows)[max(0, offset - rows[0].start) :][:limit]


def forget(session: Session, job_id: str, attempts: Sequence[int]) -> None:
    """Remove the pieces of ended attempts whose logs lie in the store."""
    ended = delete(LogPiece).where(LogPiece.job_id == job_id, LogPiece.attempt.in_(attempts))
    session.execute(ended)


def _of(job_id: str, attempt: int) -> tuple[ColumnElement[bool], ...]:
    return LogPiece.job_id == job_id, LogPiece.attempt == attempt
