"""Magnitude, as Shortened LLaMA (Kim et al., 2024) measures it: a layer of small weights matters little."""

from __future__ import annotations

from collections.abc import Mapping

from trsp_core.methods.base import Work
from trsp_core.methods.baseline import OneShot
from trsp_core.trainable import linear_weights


class Magnitude(OneShot):
    """The sum of |w| over a layer's linear maps, the paper's Mag+; the text is not read.

    The authors' code adds the norms' weights, which are less than a thousandth of a layer, to the linear maps
    of the paper's formula; here they are left out.
    """

    name = "magnitude"

    def scores(self, work: Work) -> Mapping[int, float]:
        """Return each layer's sum of absolute weights, added up in fp64."""
        return {
            layer: sum(float(weight.detach().abs().sum().double()) for weight in weights.values())
            for layer, weights in enumerate(linear_weights(work.decoder))
        }
