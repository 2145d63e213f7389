import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from tests.trsp_core.learned import learned_lm, make_identity, sequences
from trsp_core.absorb import RIDGES, Gap, _Moments, absorb, gaps
from trsp_core.budget import Passes
from trsp_core.decoder import Decoder, layer_input, switched_off
from trsp_core.errors import Cancelled
from trsp_core.evaluation.losses import mean_loss

PASSES = Passes(forward_rows=4, gradient_rows=4, checkpointed=False)


@given(st.integers(1, 12), st.sets(st.integers(0, 11)))
def test_gaps_cover_every_removed_layer_that_has_a_kept_one_before(layers: int, gone: set[int]) -> None:
    removed = sorted(layer for layer in gone if layer < layers)
    found = gaps(removed, layers)
    covered = [layer for gap in found for layer in range(gap.kept + 1, gap.stop)]
    first_kept = next((layer for layer in range(layers) if layer not in gone), layers)
    assert covered == [layer for layer in removed if layer > first_kept]
    assert all(gap.kept not in gone for gap in found)


def test_gaps_by_hand() -> None:
    assert gaps([1, 2, 5], 6) == (Gap(0, 3), Gap(4, 6))
    assert gaps([], 6) == ()


@pytest.mark.parametrize("name", ["llama", "gpt2", "phi", "opt"])
def test_a_layer_that_is_linear_in_the_previous_features_is_reproduced_exactly(name: str) -> None:
    model = learned_lm(name)
    decoder = Decoder(model)
    projection = decoder.mlp_output(2)
    width, inner = decoder.mlp_output_shape(projection)
    torch.manual_seed(0)
    map_of_layer = torch.randn(width, inner) * 0.1
    features: list[torch.Tensor] = []
    projection.register_forward_hook(lambda _m, args, _o: features.append(args[0]))

    def linear_layer(*args: object, **kwargs: object) -> torch.Tensor:
        hidden = layer_input(args, kwargs)
        return hidden + features[-1].view(*hidden.shape[:2], -1) @ map_of_layer.T

    decoder.layers[3].forward = linear_layer
    ids = sequences(16, 24, seed=5)
    with torch.inference_mode():
        dense = model(input_ids=ids).logits
    together = Passes(forward_rows=len(ids), gradient_rows=len(ids), checkpointed=False)
    (refit,) = absorb(decoder, ids, [3], ridge=1e-9, passes=together)
    assert refit.layer == 2
    assert refit.error_after < 1e-8 * max(refit.error_before, 1e-3) + 1e-9
    with torch.inference_mode(), switched_off(decoder, [3]):
        pruned = model(input_ids=ids).logits
    assert torch.allclose(pruned[:, 1:], dense[:, 1:], atol=2e-3)


def test_the_refit_lowers_the_loss_and_says_by_how_much() -> None:
    model = learned_lm()
    decoder = Decoder(model)
    windows = sequences(32, 24, seed=6)
    removed = [2, 3]
    with torch.inference_mode(), switched_off(decoder, removed):
        before = mean_loss(model, sequences(8, 24, seed=7)).item()
    (refit,) = absorb(decoder, windows, removed, ridge=0.1, passes=PASSES)
    with torch.inference_mode(), switched_off(decoder, removed):
        after = mean_loss(model, sequences(8, 24, seed=7)).item()
    assert after < before
    assert 0 <= refit.error_after < refit.error_before


@pytest.mark.parametrize("seed", [6, 7, 9])
def test_a_chosen_ridge_errs_less_on_new_text_than_one_that_learns_by_heart(seed: int) -> None:
    few, new = sequences(3, 24, seed=seed), sequences(64, 24, seed=8)
    losses = {}
    for ridge in (None, 1e-8):
        model = learned_lm()
        decoder = Decoder(model)
        (refit,) = absorb(decoder, few, [2, 3], ridge=ridge, passes=PASSES)
        with torch.inference_mode(), switched_off(decoder, [2, 3]):
            losses[ridge] = mean_loss(model, new).item()
        assert ridge is not None or refit.ridge in (0.0, *RIDGES)
    assert losses[None] < losses[1e-8]


def test_a_projection_stays_where_nothing_helps() -> None:
    model = learned_lm()
    make_identity(model, 2)
    before = model.get_parameter("model.layers.1.mlp.down_proj.weight").clone()
    (refit,) = absorb(Decoder(model), sequences(8, 24, seed=6), [2], ridge=None, passes=PASSES)
    assert refit.ridge == 0.0
    assert refit.error_before == pytest.approx(0.0, abs=1e-9)
    assert torch.equal(model.get_parameter("model.layers.1.mlp.down_proj.weight"), before)


def test_only_the_projections_before_gaps_change() -> None:
    model = learned_lm()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    decoder = Decoder(model)
    absorb(decoder, sequences(8, 24, seed=6), [1, 4], ridge=0.1, passes=PASSES)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {decoder.mlp_output_name(0), decoder.mlp_output_name(3)}


def test_the_stated_error_is_the_measured_one() -> None:
    model = learned_lm()
    decoder = Decoder(model)
    windows = sequences(8, 24, seed=6)
    (first,) = absorb(decoder, windows, [2], ridge=1e6, passes=PASSES)
    assert first.error_after == pytest.approx(first.error_before, rel=1e-3)
    (again,) = absorb(decoder, windows, [2], ridge=0.01, passes=PASSES)
    assert again.error_before == pytest.approx(first.error_after, rel=1e-2)


def test_how_the_text_is_cut_does_not_matter() -> None:
    one, other = learned_lm(), learned_lm()
    windows = sequences(8, 24, seed=6)
    absorb(Decoder(one), windows, [2], ridge=0.1, passes=Passes(8, 8, False))
    absorb(Decoder(other), windows, [2], ridge=0.1, passes=Passes(3, 3, False))
    for left, right in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(left, right, atol=1e-4)


def test_it_stops_between_passes() -> None:
    with pytest.raises(Cancelled):
        absorb(
            Decoder(learned_lm()),
            sequences(8, 24, seed=6),
            [2],
            ridge=0.1,
            passes=PASSES,
            should_stop=lambda: True,
        )


def test_the_first_token_holds_its_place_though_its_activation_is_massive() -> None:
    """One feature is faint in all tokens and massive in the first, as where attention is parked."""
    model = learned_lm()
    decoder = Decoder(model)
    projection = decoder.mlp_output(1)
    width, inner = decoder.mlp_output_shape(projection)
    torch.manual_seed(0)
    features = torch.randn(8, 24, inner)
    features[..., 0] *= 0.1
    error = 10 * features[..., :1].expand(-1, -1, width).clone()
    features[:, 0] = 0
    features[:, 0, 0] = 50
    error[:, 0] = 0
    wanted = torch.full((8, 24, width), 1.0)
    wanted[:, 0] = 100
    moments = _Moments.zeros(projection, decoder)
    moments.add(features, error, wanted)
    change = moments.solve(1e-6).float()
    asked_by_the_others = 10 * features[0, 0, 0] * width**0.5
    assert (change @ features[0, 0]).norm() < 0.6 * asked_by_the_others
