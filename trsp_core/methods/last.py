"""The simplest cut: the last unprotected layers go."""

from __future__ import annotations

from collections.abc import Mapping

from trsp_core.methods.base import Work
from trsp_core.methods.baseline import OneShot


class Last(OneShot):
    """The deeper, the sooner; the text is not read."""

    name = "last"

    def scores(self, work: Work) -> Mapping[int, float]:
        """Return each layer's distance from the end."""
        total = len(work.decoder)
        return {layer: float(total - 1 - layer) for layer in range(total)}
