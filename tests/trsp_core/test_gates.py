import pytest
import torch

from tests.trsp_core.learned import learned_lm, sequences
from trsp_core.decoder import Decoder, frozen, switched_off
from trsp_core.evaluation.losses import mean_loss
from trsp_core.gates import gated

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


def test_gates_are_detached_after_an_error() -> None:
    model = learned_lm()
    with pytest.raises(ZeroDivisionError), gated(Decoder(model), torch.zeros(6), ALL, kind="output"):
        raise ZeroDivisionError
    assert all(not layer._forward_hooks for layer in model.model.layers)
