"""Which options of a method a model or this machine cannot serve, told before any work. Torch-free."""

from __future__ import annotations

from importlib.util import find_spec

from trsp_core.architectures import architecture_of
from trsp_core.errors import InvalidSpec, Problem
from trsp_core.method_options import ADAMW, ADAMW_8BIT, MethodOptions, TrspOptions, stage2_of
from trsp_core.results import ModelFacts
from trsp_core.sources import Source
from trsp_core.sources.validate import CONFIG, read_json


def check_gate_parts(options: MethodOptions, source: Source, facts: ModelFacts) -> None:
    """Refuse gates on parts of layers that do not simply add attention's and the MLP's output.

    Raises:
        InvalidSpec: With the reason.
    """
    if not isinstance(options, TrspOptions) or options.gate_parts == "layer":
        return
    if options.candidates != "gates":
        raise _unserved("no gate is learned; it needs candidates=gates.")
    if options.gate == "output":
        raise _unserved("a part adds to the residual stream and has no whole output; it needs gate=residual.")
    config = read_json(source.path / CONFIG) if source.path.is_dir() else {}
    if architecture_of(facts.model_type).updates(config) is None:
        raise _unserved(
            f"a {facts.model_type} cannot be gated by parts: not every layer is one attention and one MLP whose"
            " outputs join the residual stream with no norm behind them. Leave gate_parts at layer."
        )


def check_optimizer(options: MethodOptions) -> None:
    """Refuse an optimizer that is not installed; `optimizer.check_device` tells whether it serves the device.

    Raises:
        InvalidSpec: Saying what to install.
    """
    stage2 = stage2_of(options)
    if stage2 is None or stage2.optimizer != ADAMW_8BIT or find_spec("bitsandbytes") is not None:
        return
    message = (
        f"is {ADAMW_8BIT!r}, which needs bitsandbytes, and that is not installed here. Install it with"
        " pip install 'trsp[quantized]', or leave optimizer at adamw."
    )
    raise InvalidSpec(Problem("/method/optimizer", message, ADAMW_8BIT, (ADAMW,)))


def _unserved(reason: str) -> InvalidSpec:
    message = f"is 'attention+mlp', but {reason}"
    return InvalidSpec(Problem("/method/gate_parts", message, "attention+mlp", ("layer",)))
