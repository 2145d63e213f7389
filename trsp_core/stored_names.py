"""Changed weights under the names and in the forms that the checkpoint of their model has."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from transformers import PreTrainedModel


def as_stored(model: PreTrainedModel, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of a model as its checkpoint stores them: experts one by one, parts by their old names.

    transformers loads many checkpoints under other names than it keeps in memory and fuses a layer's experts;
    this turns back what it did when it loaded `model`.

    Args:
        model: The loaded model; left as it is.
        tensors: Values by the model's names; layers may be numbered otherwise.
    """
    from transformers.core_model_loading import revert_weight_conversion

    stored: dict[str, Tensor] = revert_weight_conversion(model, dict(tensors))
    return stored
