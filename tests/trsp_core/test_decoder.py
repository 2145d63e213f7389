import pytest
import torch

from tests.trsp_core.learned import learned_lm, sequences
from trsp_core.decoder import (
    Decoder,
    checkpointed,
    frozen,
    run_layer,
    start,
    starting_from,
    switched_off,
)
from trsp_core.evaluation.losses import mean_loss

FAMILIES = ("llama", "llama-tied", "opt", "gpt2", "qwen2", "qwen3", "phi")


@pytest.mark.parametrize("name", FAMILIES)
def test_layers_run_one_by_one_as_the_model_runs_them(name: str) -> None:
    model = learned_lm(name)
    decoder = Decoder(model)
    ids = sequences(3, 12, seed=1)
    with torch.inference_mode():
        calls = start(decoder, ids)
        hidden = calls.hidden
        for layer in range(len(decoder)):
            hidden = run_layer(decoder, layer, hidden, calls)
        with starting_from(decoder, len(decoder), hidden):
            by_hand = mean_loss(model, ids)
        assert by_hand == pytest.approx(mean_loss(model, ids).item(), abs=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_starting_in_the_middle_gives_the_same_loss(name: str) -> None:
    model = learned_lm(name)
    decoder = Decoder(model)
    ids = sequences(3, 12, seed=1)
    with torch.inference_mode():
        calls = start(decoder, ids)
        hidden = run_layer(decoder, 1, run_layer(decoder, 0, calls.hidden, calls), calls)
        with starting_from(decoder, 2, hidden):
            resumed = mean_loss(model, ids).item()
        assert resumed == pytest.approx(mean_loss(model, ids).item(), abs=1e-6)


def test_switching_off_changes_the_loss_and_is_undone_also_after_an_error() -> None:
    model = learned_lm()
    decoder = Decoder(model)
    ids = sequences(3, 12, seed=1)
    with torch.inference_mode():
        before = mean_loss(model, ids).item()
        with pytest.raises(ZeroDivisionError), switched_off(decoder, [1, 2]):
            assert mean_loss(model, ids).item() != pytest.approx(before, abs=1e-4)
            raise ZeroDivisionError
        assert mean_loss(model, ids).item() == before
    assert all("forward" not in layer.__dict__ for layer in decoder.layers)


def test_overrides_nest() -> None:
    decoder = Decoder(learned_lm())
    with switched_off(decoder, [1]):
        inner = decoder.layers[1].__dict__["forward"]
        with checkpointed(decoder):
            assert decoder.layers[1].__dict__["forward"] is not inner
        assert decoder.layers[1].__dict__["forward"] is inner


def test_checkpointing_gives_the_same_gradients() -> None:
    model = learned_lm()
    decoder = Decoder(model)
    ids = sequences(3, 12, seed=1)
    mean_loss(model, ids).backward()
    plain = model.model.layers[0].mlp.down_proj.weight.grad.clone()
    model.zero_grad()
    with checkpointed(decoder):
        mean_loss(model, ids).backward()
    assert torch.allclose(plain, model.model.layers[0].mlp.down_proj.weight.grad, atol=1e-7)


def test_frozen_restores_what_could_learn() -> None:
    model = learned_lm()
    chosen = model.model.norm.weight
    with frozen(model, [chosen]):
        assert [item for item in model.parameters() if item.requires_grad] == [chosen]
    assert all(item.requires_grad for item in model.parameters())


@pytest.mark.parametrize("name", FAMILIES)
def test_the_mlp_output_is_changed_in_place_whatever_its_orientation(name: str) -> None:
    model = learned_lm(name)
    decoder = Decoder(model)
    projection = decoder.mlp_output(2)
    width, inner = decoder.mlp_output_shape(projection)
    read = torch.randn(5, inner)
    before = projection(read)
    change = torch.randn(width, inner)
    decoder.add_to_mlp_output(2, change)
    assert torch.allclose(projection(read) - before, read @ change.T, atol=1e-4)
    assert model.get_parameter(decoder.mlp_output_name(2)) is projection.weight
