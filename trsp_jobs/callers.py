"""Who calls the service."""

from __future__ import annotations

from dataclasses import dataclass

from trsp_jobs.scopes import ALL, Scope

OPERATOR_OWNER = "operator"


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of a valid key.

    Attributes:
        key_id: The key's row; None for the operator's own key, which stands in the settings.
        name: What its maker called it.
        owner: Whose resources it reaches. Keys of one owner share them, so that a key can be replaced.
        scopes: What it may do.
        limited: Whether its key may have a quota on new jobs.
    """

    key_id: str | None
    name: str
    owner: str
    scopes: frozenset[Scope]
    limited: bool = True

    def may(self, scope: Scope) -> bool:
        """Tell whether it has a right."""
        return scope in self.scopes

    @property
    def visible_owner(self) -> str | None:
        """The one owner whose resources it reaches; None where it reaches everybody's."""
        return None if self.may(Scope.OWNERS_ALL) else self.owner

    @property
    def shared_owners(self) -> tuple[str, ...] | None:
        """The owners whose models it may name: its own and the operator's, who shares his; None for everybody's."""
        return None if self.visible_owner is None else (self.owner, OPERATOR_OWNER)

    def sees(self, owner: str) -> bool:
        """Tell whether it reaches an owner's resources."""
        return self.visible_owner in (None, owner)


OPERATOR = Caller(None, "operator", OPERATOR_OWNER, ALL)
"""The holder of `TRSP_API_KEY`, and what the service does of its own accord."""
