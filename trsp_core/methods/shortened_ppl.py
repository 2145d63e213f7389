"""Shortened LLaMA (Kim et al., 2024), criterion PPL: a layer without which the perplexity stays low matters little."""

from __future__ import annotations

from collections.abc import Mapping

from trsp_core.methods.base import Work
from trsp_core.methods.baseline import OneShot
from trsp_core.verification import losses_without, tokens_of_trials


class ShortenedPpl(OneShot):
    """Each layer alone is taken out and the calibration text read; the layers that are missed least go at once.

    The score is the mean cross-entropy: the perplexity is its exponential and orders the layers the same. The
    criterion sees by itself that the ends are needed, so that the paper protects none for it.
    """

    name = "shortened-ppl"

    def scores(self, work: Work) -> Mapping[int, float]:
        """Return the loss without each unprotected layer, nats a token."""
        candidates = self.candidates(work)
        work.tokens.forward += tokens_of_trials(candidates, len(work.decoder), work.windows.numel())
        return losses_without(
            work.decoder,
            work.windows,
            candidates,
            gone=(),
            passes=work.passes,
            should_stop=work.should_stop,
        )
