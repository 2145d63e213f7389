import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from tests.trsp_core.learned import learned_lm
from trsp_core.decoder import Decoder
from trsp_core.errors import Cancelled
from trsp_core.method_options import MOST_OWN_TOKENS, own_sequences
from trsp_core.own_text import written_by


def test_it_is_decided_by_the_seed_and_leaves_the_generator_alone() -> None:
    decoder = Decoder(learned_lm())
    before = torch.random.get_rng_state()
    first = written_by(decoder, sequences=5, length=12, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.shape == (5, 12)
    assert torch.equal(written_by(decoder, sequences=5, length=12, seed=3), first)
    assert not torch.equal(written_by(decoder, sequences=5, length=12, seed=4), first)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_no_text_ends_and_none_begins_with_a_special_token(name: str) -> None:
    model = learned_lm(name)
    model.config.eos_token_id, model.config.bos_token_id = 7, 8
    ids = written_by(Decoder(model), sequences=60, length=10, seed=0)
    assert not torch.isin(ids, torch.tensor([7, 8])).any()


def test_the_model_prefers_what_it_learned() -> None:
    """`learned_lm` was trained on text whose tokens follow each other by a rule; noise would break it."""
    decoder = Decoder(learned_lm())
    ids = written_by(decoder, sequences=20, length=16, seed=1)
    with torch.inference_mode():
        found = decoder.model(input_ids=ids, labels=ids).loss.item()
        noise = torch.randint(0, decoder.model.config.vocab_size, ids.shape)
        assert found < decoder.model(input_ids=noise, labels=noise).loss.item() - 0.5


def test_it_stops_between_tokens() -> None:
    asked = iter([False] * 3)
    with pytest.raises(Cancelled):
        written_by(
            Decoder(learned_lm()), sequences=2, length=12, seed=0, should_stop=lambda: next(asked, True)
        )


@given(st.integers(1, 5000), st.sampled_from([8, 256, 2048]), st.floats(0, 0.9, allow_subnormal=False))
def test_own_sequences_make_their_share_of_all_within_bounds(
    given_rows: int, length: int, share: float
) -> None:
    own = own_sequences(given_rows, length, share)
    assert own * length <= max(MOST_OWN_TOKENS, length)
    if own < MOST_OWN_TOKENS // length:
        assert abs(own - share * (own + given_rows)) <= 1
