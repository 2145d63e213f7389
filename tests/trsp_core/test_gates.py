from contextlib import nullcontext

import pytest
import torch

from tests.trsp_core.learned import learned_lm, sequences
from trsp_core.decoder import Decoder, checkpointed, frozen, switched_off
from trsp_core.evaluation.losses import mean_loss
from trsp_core.gates import gated, gated_parts

ALL = range(6)


@pytest.mark.parametrize("kind", ["residual", "output"])
def test_open_gates_change_nothing(kind: str) -> None:
    model = learned_lm()
    ids = sequences(4, 12, seed=2)
    with torch.inference_mode(), gated(Decoder(model), torch.ones(6), ALL, kind=kind):
        gated_loss = mean_loss(model, ids).item()
    with torch.inference_mode():
        assert gated_loss == pytest.approx(mean_loss(model, ids).item(), abs=1e-6)


def test_a_closed_residual_gate_is_removal() -> None:
    model = learned_lm()
    decoder = Decoder(model)
    ids = sequences(4, 12, seed=2)
    gates = torch.ones(6)
    gates[3] = 0.0
    with torch.inference_mode():
        with gated(decoder, gates, ALL, kind="residual"):
            closed = mean_loss(model, ids).item()
        with switched_off(decoder, [3]):
            assert closed == pytest.approx(mean_loss(model, ids).item(), abs=1e-6)


def test_an_output_gate_scales_the_whole_stream() -> None:
    model = learned_lm()
    decoder = Decoder(model)
    ids = sequences(2, 12, seed=2)
    seen: list[torch.Tensor] = []
    with torch.inference_mode(), gated(decoder, torch.full((1,), 0.5), [1], kind="output"):
        handle = decoder.layers[2].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        mean_loss(model, ids)
        handle.remove()
    with torch.inference_mode():
        handle = decoder.layers[2].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        mean_loss(model, ids)
        handle.remove()
    assert torch.allclose(seen[0], 0.5 * seen[1], atol=1e-6)


@pytest.mark.parametrize("kind", ["residual", "output"])
@pytest.mark.parametrize("name", ["llama", "opt", "gpt2", "qwen2", "qwen3", "phi"])
def test_the_language_model_loss_has_a_gradient_on_every_gate(name: str, kind: str) -> None:
    model = learned_lm(name)
    gates = torch.ones(6, requires_grad=True)
    with frozen(model), gated(Decoder(model), gates, ALL, kind=kind):
        mean_loss(model, sequences(4, 12, seed=2)).backward()
    assert gates.grad is not None
    assert (gates.grad.abs() > 1e-8).all()


PARTED = ["llama", "opt", "gpt2", "qwen3", "phi", "granite", "cohere2"]


@pytest.mark.parametrize("name", PARTED)
def test_the_gradient_of_a_part_gate_is_the_slope_of_the_loss(name: str) -> None:
    model = learned_lm(name)
    decoder, ids = Decoder(model), sequences(4, 12, seed=2)

    def loss_at(gates: torch.Tensor) -> torch.Tensor:
        with gated_parts(decoder, gates, ALL):
            return mean_loss(model, ids)

    gates = torch.linspace(0.4, 1.1, 12).requires_grad_()
    with frozen(model):
        loss_at(gates).backward()
    assert gates.grad is not None
    assert (gates.grad.abs() > 1e-8).all()
    for place in range(12):
        step = torch.zeros(12)
        step[place] = 5e-3
        with torch.inference_mode():
            slope = (loss_at(gates + step) - loss_at(gates - step)).item() / 1e-2
        assert slope == pytest.approx(gates.grad[place].item(), rel=0.02, abs=5e-4)


@pytest.mark.parametrize("name", PARTED)
@pytest.mark.parametrize("under_checkpointing", [False, True])
def test_both_parts_of_a_layer_closed_are_its_removal(name: str, under_checkpointing: bool) -> None:
    model = learned_lm(name)
    decoder, ids = Decoder(model), sequences(4, 12, seed=2)
    gates = torch.ones(12)
    gates[6:8] = 0.0
    around = checkpointed(decoder) if under_checkpointing else nullcontext()
    with torch.no_grad(), around, gated_parts(decoder, gates, ALL):
        closed = mean_loss(model, ids).item()
    with torch.inference_mode(), switched_off(decoder, [3]):
        assert closed == pytest.approx(mean_loss(model, ids).item(), abs=1e-6)


def test_each_part_has_its_own_gate() -> None:
    model = learned_lm("llama")
    decoder, ids = Decoder(model), sequences(4, 12, seed=2)
    with torch.inference_mode():
        with gated_parts(decoder, torch.tensor([0.0, 1.0]), [2]):
            without_attention = mean_loss(model, ids).item()
        model.model.layers[2].self_attn.o_proj.weight.zero_()
        assert mean_loss(model, ids).item() == pytest.approx(without_attention, abs=1e-6)


def test_a_type_whose_parts_cannot_be_told_is_refused() -> None:
    with (
        pytest.raises(ValueError, match="gemma2"),
        gated_parts(Decoder(learned_lm("gemma2")), torch.ones(2), [1]),
    ):
        pass


def test_gates_are_detached_after_an_error() -> None:
    model = learned_lm()
    with pytest.raises(ZeroDivisionError), gated(Decoder(model), torch.zeros(6), ALL, kind="output"):
        raise ZeroDivisionError
    assert all(not layer._forward_hooks for layer in model.model.layers)
