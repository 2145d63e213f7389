"""Keys of the tests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.api.conftest import SECRET, Api
from trsp_jobs import service
from trsp_jobs.callers import OPERATOR
from trsp_jobs.scopes import ALL, Scope
from trsp_jobs.service import KeyRequest

OWN = ALL - {Scope.OWNERS_ALL}
"""Every right on the resources of one owner."""


@dataclass(frozen=True)
class Held:
    """A stored key and its text."""

    id: str
    key: str

    @property
    def bearer(self) -> dict[str, str]:
        """The header that shows it."""
        return {"Authorization": f"Bearer {self.key}"}


def hold(
    api: Api,
    scopes: Iterable[Scope] = OWN,
    owner: str = "team",
    expires_at: datetime | None = None,
    **quotas: Any,
) -> Held:
    """Make a key, one that has expired among them."""
    wanted = KeyRequest(
        name=f"key of {owner}", owner=owner, scopes=frozenset(scopes), expires_at=expires_at, **quotas
    )
    with api.services.session() as session:
        row, token = service.create_key(session, wanted, secret=SECRET, maker=OPERATOR)
    return Held(row.id, token)
