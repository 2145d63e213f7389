"""What may be compared, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trsp_core.compare.request import DENSE, DENSE_TUNED, ComparisonRequest
from trsp_core.errors import InvalidSpec

BASE: dict[str, Any] = {"model": "m", "target": {"layers_to_remove": 2}, "calibration": "python-docs"}


def request(*methods: Any, **more: Any) -> ComparisonRequest:
    return ComparisonRequest.from_dict({**BASE, "methods": list(methods), **more})


def refusal(*methods: Any, **more: Any) -> dict[str, str]:
    with pytest.raises(InvalidSpec) as caught:
        request(*methods, **more)
    return {problem.pointer: problem.message for problem in caught.value.problems}


def test_the_dense_model_is_always_the_first_row() -> None:
    entries = request("shortgpt", "sleb+absorb").entries
    assert [entry.label for entry in entries] == [DENSE, "shortgpt", "sleb+absorb"]
    assert [entry.reference for entry in entries] == [True, False, False]


def test_gradient_steps_bring_the_tuned_dense_model_with_the_largest_budget() -> None:
    small = {"name": "shortgpt+tune", "stage2_steps": 5, "batch_sequences": 2, "trainable": "full"}
    large = {"name": "trsp", "stage2_steps": 4, "batch_sequences": 4, "learning_rate": 0.002, "lora_rank": 8}
    entries = request(small, large).entries
    assert [entry.label for entry in entries] == [DENSE, DENSE_TUNED, "shortgpt+tune", "trsp"]
    told = entries[1].described()
    assert (told["name"], told["stage2_steps"], told["batch_sequences"]) == ("dense+tune", 4, 4)
    assert (told["learning_rate"], told["lora_rank"]) == (0.002, 8)
    assert "protect_first" not in told


def test_no_steps_no_tuned_row() -> None:
    assert request({"name": "trsp", "stage2_steps": 0}).budget() is None


def test_one_method_may_stand_in_several_rows_by_label() -> None:
    found = request("trsp", {"label": "trsp without absorb", "name": "trsp", "absorb": False})
    assert [entry.label for entry in found.methods] == ["trsp", "trsp without absorb"]
    assert "trsp" in refusal("trsp", "trsp")["/methods/1/label"]
    assert "dense" in refusal({"label": "dense", "name": "trsp"})["/methods/0/label"]
    assert "/methods/0/label" in refusal({"label": "two\nlines", "name": "trsp"})


def test_every_wrong_method_is_named_at_once() -> None:
    found = refusal("shortgtp", {"name": "sleb", "protect_first": -1}, {"name": "last", "colour": 1})
    assert set(found) == {"/methods/0/name", "/methods/1/protect_first", "/methods/2/colour"}
    assert "at least one" in refusal()["/methods"]


def test_tasks_and_speed_are_refused() -> None:
    assert "not in this release" in refusal("last", evaluation={"tasks": ["piqa"]})["/evaluation/tasks"]
    assert "trsp evaluate" in refusal("last", evaluation={"speed": True})["/evaluation/speed"]


def test_the_home_texts_are_those_that_calibration_names_unless_told() -> None:
    evaluation = {"perplexity": ["text:a.txt", "python-docs"]}
    assert request("last", evaluation=evaluation).home_texts == ("python-docs",)
    assert request("last", evaluation=evaluation, in_domain=["text:a.txt"]).home_texts == ("text:a.txt",)
    assert "no evaluation set" in refusal("last", in_domain=["c4"])["/in_domain/0"]


def test_json_gives_the_same_request_back() -> None:
    made = request(
        "trsp", {"label": "own", "name": "sleb+tune", "stage2_steps": 7}, in_domain=["python-docs"]
    )
    data = json.loads(json.dumps(made.to_dict()))
    assert ComparisonRequest.from_dict(data) == made
    assert ComparisonRequest.from_dict(data).fingerprint() == made.fingerprint()
    assert request("trsp").fingerprint() != made.fingerprint()


def test_a_wrong_device_is_refused_before_any_work() -> None:
    assert "/device" in refusal("last", device="gpu")
