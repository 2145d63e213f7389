"""The words of the command line, and the names that problems get there."""

from __future__ import annotations

import json

import pytest

from trsp_cli import spec_options as words
from trsp_cli.flags import flag_of, in_flags
from trsp_core.config import CompressionSpec
from trsp_core.errors import InputRefused, InvalidSpec, Problem
from trsp_core.method_options import TrspOptions
from trsp_core.options import rules


@pytest.mark.parametrize(
    ("text", "number"),
    [("100M", 100_000_000), ("6.5b", 6_500_000_000), ("12", 12), (" 3 K ", 3000), ("1G", 10**9)],
)
def test_numbers_with_units(text: str, number: int) -> None:
    assert words.count(text, "/target/max_params") == number


@pytest.mark.parametrize("text", ["", "M", "-3M", "1e6", "10 MB", "nan"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(InputRefused, match="must be a number such as 100M"):
        words.count(text, "/target/max_params")


def test_only_what_was_given_is_in_the_spec() -> None:
    assert words.target(None, None, None, None, None) == {}
    assert words.target(0.25, None, "1M", None, None) == {"sparsity": 0.25, "max_params": 1_000_000}
    assert words.calibration("ptb", None, 64, 0) == {"set": "ptb", "sequence_length": 64, "seed": 0}
    assert words.evaluation(None, None, True, None, None) == {"speed": True}
    assert words.evaluation("a, b,", "piqa", False, 2, 3) == {
        "speed": False,
        "perplexity": ["a", "b"],
        "tasks": ["piqa"],
        "windows": 2,
        "window_length": 3,
    }


def test_settings_reach_every_part_of_the_spec() -> None:
    spec = {"method": {"name": "trsp"}, "evaluation": {"speed": True}}
    settings = ["lambda1=0.5", "method.gate=output", "evaluation.speed.batch=8", "target.sparsity=0.25"]
    settings += ["dtype=bfloat16", "absorb=false", "learning_rate=null", "export.formats=[]", "trainable=a=b"]
    assert words.with_settings(spec, settings) == {
        "method": {
            "name": "trsp",
            "lambda1": 0.5,
            "gate": "output",
            "absorb": False,
            "learning_rate": None,
            "trainable": "a=b",
        },
        "evaluation": {"speed": {"batch": 8}},
        "target": {"sparsity": 0.25},
        "dtype": "bfloat16",
        "export": {"formats": []},
    }
    assert spec == {"method": {"name": "trsp"}, "evaluation": {"speed": True}}


def test_every_option_of_the_method_can_be_set() -> None:
    base = {"model": "m", "sparsity": 0.5, "calibration": "python-docs", "method": {"name": "trsp"}}
    for name in rules(TrspOptions):
        value = getattr(TrspOptions(), name)
        text = value if isinstance(value, str) else json.dumps(value)
        spec = CompressionSpec.from_dict(words.with_settings(base, [f"{name}={text}"]))
        assert getattr(spec.method.options, name) == value


@pytest.mark.parametrize("setting", ["lambda1", "=3", ""])
def test_a_setting_needs_a_name_and_a_value(setting: str) -> None:
    with pytest.raises(InputRefused, match="must be key=value"):
        words.with_settings({}, [setting])


@pytest.mark.parametrize(
    ("pointer", "flag"),
    [
        ("/model", "MODEL"),
        ("/target", "TARGET"),
        ("/target/layers_to_remove", "--layers-to-remove"),
        ("/calibration/set", "--calibration"),
        ("/calibration/sequence_length", "--sequence-length"),
        ("/calibration/words", "--set calibration.words"),
        ("/method/name", "--method"),
        ("/method/lambda1", "--set lambda1"),
        ("/evaluation/perplexity", "--perplexity"),
        ("/evaluation/perplexity/12", "--perplexity"),
        ("/evaluation/speed", "--speed"),
        ("/evaluation/speed/batch", "--set evaluation.speed.batch"),
        ("/dtype", "--set dtype"),
        ("/device", "--device"),
        ("/queue_deadline", "--queue-deadline"),
        ("/limit", "/limit"),
        ("--layers", "--layers"),
        ("", ""),
    ],
)
def test_a_field_is_named_by_the_flag_that_sets_it(pointer: str, flag: str) -> None:
    assert flag_of(pointer) == flag


def test_every_problem_of_a_spec_full_of_mistakes_is_named_by_a_flag() -> None:
    wrong = {
        "model": 1,
        "target": {"sparsity": 2},
        "calibration": {"set": "x", "sequences": 0, "seed": -1},
        "method": {"name": "trsp", "gate": "x"},
        "evaluation": {"windows": 0, "window_length": 0, "speed": {"batch": 0}},
        "export": {"formats": ["x"]},
        "device": "x",
        "dtype": "x",
    }
    with pytest.raises(InvalidSpec) as caught:
        CompressionSpec.from_dict(wrong)
    named = [in_flags(problem).pointer for problem in caught.value.problems]
    assert len(named) >= 9
    assert all(name == "MODEL" or name.startswith("--") for name in named)


def test_a_message_about_the_target_speaks_of_flags_and_others_keep_their_words() -> None:
    message = "is 0.9 (sparsity 0.7); lower protect_first."
    target = in_flags(Problem("/target/sparsity", message, 0.9))
    assert str(target) == "--sparsity: is 0.9 (--sparsity 0.7); lower --set protect_first."
    assert in_flags(Problem("/model", message)).message == message
