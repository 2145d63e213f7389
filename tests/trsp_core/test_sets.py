import hypothesis.strategies as st
import pytest
from hypothesis import given

from trsp_core.errors import InvalidSpec
from trsp_core.registry import CALIBRATION_SETS
from trsp_core.sets import SetReference, parse_sets

PLAIN = sorted(name for name, entry in CALIBRATION_SETS.items() if not entry.argument)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("c4", [SetReference("c4")]),
        ("text:a.txt", [SetReference("text", "a.txt")]),
        ("text:a#b.txt", [SetReference("text", "a#b.txt")]),
        ("jsonl:a.jsonl#body", [SetReference("jsonl", "a.jsonl", "body")]),
        ("parquet:a.parquet", [SetReference("parquet", "a.parquet")]),
        ("upload:cal_1#body", [SetReference("upload", "cal_1", "body")]),
        ("c4+ptb", [SetReference("c4"), SetReference("ptb")]),
        ("text:a+b.txt+c4", [SetReference("text", "a+b.txt"), SetReference("c4")]),
    ],
)
def test_references_are_read(text: str, expected: list[SetReference]) -> None:
    assert list(parse_sets(text, "/set")) == expected


@given(st.lists(st.sampled_from(PLAIN), min_size=1, max_size=4))
def test_joined_sets_read_back(names: list[str]) -> None:
    assert [str(item) for item in parse_sets("+".join(names), "/set")] == names


def test_a_join_where_none_may_be_is_refused() -> None:
    with pytest.raises(InvalidSpec):
        parse_sets("c4+ptb", "/set", joined=False)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert parse_sets(text, "/set")
    except InvalidSpec as error:
        assert error.problems[0].pointer == "/set"
