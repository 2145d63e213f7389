"""What the transfer reads: the calibration text, and text that the dense model wrote itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Text:
    """Token ids, `[sequences, tokens]` each; `own` may have no sequence.

    Attributes:
        given: The calibration text.
        own: The dense model's own.
    """

    given: Tensor
    own: Tensor

    @classmethod
    def of(cls, given: Tensor) -> Text:
        """Return the calibration text alone."""
        return cls(given, given[:0])

    @property
    def everything(self) -> Tensor:
        """Both, the calibration text first."""
        return torch.cat([self.given, self.own])

    @property
    def mixed(self) -> Tensor:
        """Both, spread evenly over each other, so that any share of the sequences holds both."""
        places = [(row + 0.5) / len(part) for part in (self.given, self.own) for row in range(len(part))]
        return self.everything[torch.tensor(places).argsort(stable=True)]
