"""AdamW with moments of 32 and of 8 bits: built, checked, and put back from a checkpoint to the bit."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig

from tests.trsp_core.learned import sequences
from trsp_core import method_checks, registry
from trsp_core.budget import Passes
from trsp_core.decoder import Decoder
from trsp_core.errors import InvalidSpec
from trsp_core.method_checks import check_optimizer
from trsp_core.method_options import ADAMW, ADAMW_8BIT, MethodOptions, TrspOptions
from trsp_core.optimizer import SMALLEST, check_device, optimizer_of, restore_states, states_of
from trsp_core.stage2 import Snapshot, transfer
from trsp_core.text import Text
from trsp_core.workspace import Workspace

CPU = torch.device("cpu")
NEEDS_LIBRARY = pytest.mark.skipif(
    find_spec("bitsandbytes") is None, reason="the extra 'quantized' is not installed"
)
KINDS = [ADAMW, pytest.param(ADAMW_8BIT, marks=NEEDS_LIBRARY)]
PASSES = Passes(forward_rows=4, gradient_rows=2, checkpointed=False)
WINDOWS = sequences(8, 16, seed=3)


def weights(seed: int = 0) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"wide": (64, SMALLEST // 32), "norm": (64,)}
    return {
        name: nn.Parameter(torch.randn(shape, generator=generator), requires_grad=True)
        for name, shape in shapes.items()
    }


def step(optimizer: torch.optim.Optimizer, parameters: dict[str, nn.Parameter], number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    for parameter in parameters.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_on_from_its_states_to_the_bit(kind: str) -> None:
    whole = weights()
    optimizer = optimizer_of(kind, whole.values(), 1e-2)
    for number in range(3):
        step(optimizer, whole, number)
    again = {name: nn.Parameter(value.detach().clone()) for name, value in whole.items()}
    resumed = optimizer_of(kind, again.values(), 1e-2)
    restore_states(resumed, again, states_of(optimizer, whole), steps=3)
    for number in range(3, 6):
        step(optimizer, whole, number)
        step(resumed, again, number)
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@NEEDS_LIBRARY
def test_large_weights_have_moments_of_8_bits_and_small_ones_of_32() -> None:
    states = {}
    for kind in (ADAMW, ADAMW_8BIT):
        parameters = weights()
        optimizer = optimizer_of(kind, parameters.values(), 1e-2)
        step(optimizer, parameters, 0)
        states[kind] = states_of(optimizer, parameters)
    assert states[ADAMW].keys() == {"exp_avg", "exp_avg_sq"}
    moments = states[ADAMW_8BIT]["state1"]
    assert (moments["wide"].dtype, moments["norm"].dtype) == (torch.uint8, torch.float32)
    assert moments["wide"].shape == states[ADAMW]["exp_avg"]["wide"].shape


@NEEDS_LIBRARY
def test_8_bits_step_nearly_as_32_do() -> None:
    start, ended = weights(), {}
    for kind in (ADAMW, ADAMW_8BIT):
        ended[kind] = weights()
        optimizer = optimizer_of(kind, ended[kind].values(), 1e-2)
        for number in range(5):
            step(optimizer, ended[kind], number)
    moved = (ended[ADAMW]["wide"] - start["wide"]).norm()
    apart = (ended[ADAMW_8BIT]["wide"] - ended[ADAMW]["wide"]).norm()
    assert 0 < apart < 0.05 * moved


def wide_lm() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=4,
        num_attention_heads=2,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trainable", ["full", "lora"])
def test_stage_2_goes_on_from_a_checkpoint_file_with_the_same_weights(
    kind: str, trainable: str, tmp_path: Path
) -> None:
    options = TrspOptions(
        optimizer=kind,
        trainable=trainable,
        lora_rank=64,
        stage2_steps=4,
        checkpoint_every=2,
        objective="lm",
        schedule="removed",
    )
    space = Workspace(tmp_path)
    space.checkpoint.mkdir()

    def keep(snapshot: Snapshot) -> None:
        about = {"step": snapshot.step, "records": snapshot.records_as_dicts()}
        space.save_tensors("stage2", snapshot.tensors(), about)

    def run(**more: Any) -> tuple[Any, dict[str, Tensor]]:
        model = wide_lm()
        records = transfer(
            Decoder(model), Text.of(WINDOWS), (1, 2), options, passes=PASSES, teacher=None, seed=0, **more
        )
        return records, dict(model.state_dict())

    records, whole = run(on_checkpoint=keep)
    saved = space.load_tensors("stage2")
    assert saved is not None
    tensors, about = saved
    assert any(item.dtype == torch.uint8 for item in tensors.values()) == (kind == ADAMW_8BIT)
    repeated, resumed = run(resume=Snapshot.of(about["step"], about["records"], tensors))
    assert repeated == records
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@NEEDS_LIBRARY
def test_a_cpu_is_served() -> None:
    check_device(TrspOptions(optimizer=ADAMW_8BIT), CPU)


def refusing(*_: Any, **__: Any) -> Any:
    def step() -> None:
        raise NotImplementedError("no kernel for this device\nand more")

    return SimpleNamespace(step=step)


def test_a_device_that_is_not_served_is_refused_with_the_library_s_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", SimpleNamespace(AdamW8bit=refusing))
    with pytest.raises(InvalidSpec, match=r"does not serve on cpu \(no kernel for this device\)") as caught:
        check_device(TrspOptions(optimizer=ADAMW_8BIT), CPU)
    assert caught.value.problems[0].pointer == "/method/optimizer"


EIGHT = {"optimizer": ADAMW_8BIT}


@pytest.mark.parametrize("options", [TrspOptions(**EIGHT), registry.METHODS["sleb+tune"].options(**EIGHT)])
def test_it_is_refused_where_it_is_not_installed(
    options: MethodOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(method_checks, "find_spec", lambda _: None)
    with pytest.raises(InvalidSpec, match=r"pip install 'trsp\[quantized\]'") as caught:
        check_optimizer(options)
    assert caught.value.problems[0].pointer == "/method/optimizer"


@pytest.mark.parametrize(
    "options", [TrspOptions(), TrspOptions(stage2_steps=0, **EIGHT), registry.METHODS["sleb"].options()]
)
def test_nothing_is_needed_where_it_takes_no_step(
    options: MethodOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(method_checks, "find_spec", lambda _: None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", SimpleNamespace(AdamW8bit=refusing))
    check_optimizer(options)
    check_device(options, CPU)
