import hypothesis.strategies as st
import torch
from hypothesis import given

from trsp_core.text import Text


@given(st.integers(1, 60), st.integers(0, 60))
def test_mixed_holds_every_sequence_once_and_spreads_both_kinds(given_rows: int, own_rows: int) -> None:
    total = given_rows + own_rows
    ids = torch.arange(total)[:, None]
    mixed = Text(ids[:given_rows], ids[given_rows:]).mixed[:, 0].tolist()
    assert sorted(mixed) == list(range(total))
    for end in range(1, total + 1):
        own = sum(row >= given_rows for row in mixed[:end])
        assert abs(own - end * own_rows / total) <= 1.5


def test_calibration_text_alone_is_all_there_is() -> None:
    ids = torch.arange(12).view(3, 4)
    text = Text.of(ids)
    assert len(text.own) == 0
    assert torch.equal(text.everything, ids)
    assert torch.equal(text.mixed, ids)
