"""The checkpoint after stage 2: the changed weights that stay, and how they came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from torch import Tensor

from trsp_core.absorb import Refit
from trsp_core.methods.base import TokenCount, Transfer
from trsp_core.results import StepRecord
from trsp_core.workspace import Workspace

_NAME = "transfer"
_REPLACED = ("stage2", "refit", "teacher")


@dataclass(frozen=True)
class SavedTransfer:
    """A finished transfer read back; `tensors` by the parameters' names in the dense model."""

    transfer: Transfer
    tensors: Mapping[str, Tensor]
    tokens: TokenCount


def save_transfer(
    space: Workspace, transfer: Transfer, tensors: Mapping[str, Tensor], tokens: TokenCount
) -> None:
    """Write the checkpoint and drop those that it replaces."""
    about = {
        "refits": [asdict(item) for item in transfer.refits],
        "records": [asdict(item) for item in transfer.records],
        "identity_gap": {str(layer): list(gap) for layer, gap in transfer.identity_gap.items()},
        "notes": list(transfer.notes),
        "tokens": asdict(tokens),
    }
    space.save_tensors(_NAME, tensors, about)
    for name in _REPLACED:
        space.drop(name)


def load_transfer(space: Workspace) -> SavedTransfer | None:
    """Return the checkpoint, or None where stage 2 was not finished."""
    saved = space.load_tensors(_NAME)
    if saved is None:
        return None
    tensors, about = saved
    transfer = Transfer(
        changed=frozenset(tensors),
        refits=tuple(Refit(**item) for item in about["refits"]),
        records=tuple(StepRecord(**item) for item in about["records"]),
        identity_gap={int(layer): (gap[0], gap[1]) for layer, gap in about["identity_gap"].items()},
        notes=tuple(about["notes"]),
    )
    return SavedTransfer(transfer, tensors, TokenCount(**about["tokens"]))
