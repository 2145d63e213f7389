"""Evaluation on its own: figures, fairness, and refusals before any work."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from trsp_core import comparison
from trsp_core.comparison import EvaluationRequest, evaluate_models
from trsp_core.errors import Cancelled, InputRefused
from trsp_core.sources import SourcePolicy
from trsp_core.surgery import remove_streamed

Tiny = Callable[[str], Path]
LENGTH = 32
SPEED = {"prompt_tokens": 16, "batch": 2, "generation_prompt": 4, "new_tokens": 4, "repeats": 3, "warmup": 0}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(" ".join(f"line {number} says {number * 37 % 101}." for number in range(40)))
    return path


@pytest.fixture
def pruned(tmp_path: Path, tiny_folder: Tiny) -> Path:
    remove_streamed(tiny_folder("llama"), tmp_path / "pruned", [0, 1, 4, 5])
    return tmp_path / "pruned"


def measure(model: Path | str, against: Path | str | None, policy: SourcePolicy, **evaluation: Any) -> Any:
    request = EvaluationRequest.of(
        model=str(model),
        against=None if against is None else str(against),
        evaluation={"windows": 4, "window_length": LENGTH, **evaluation},
        seed=0,
        device="cpu",
    )
    return evaluate_models(request, tell=lambda _: None, should_stop=lambda: False, policy=policy)


def perplexity_by_hand(folder: Path, text: Path) -> float:
    ids = AutoTokenizer.from_pretrained(folder)(text.read_text(), return_tensors="pt")["input_ids"][0]
    windows = ids[: 4 * LENGTH].view(4, LENGTH)
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        logits = model(windows).logits[:, :-1]
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), windows[:, 1:].reshape(-1))
    return math.exp(loss)


def test_both_are_measured_on_the_same_windows(
    tiny_folder: Tiny, pruned: Path, text: Path, policy: SourcePolicy
) -> None:
    data = measure(pruned, tiny_folder("llama"), policy, perplexity=[f"text:{text}"])
    found = data["perplexity"][f"text:{text}"]
    assert found["pruned"] == pytest.approx(perplexity_by_hand(pruned, text), rel=1e-5)
    assert found["dense"] == pytest.approx(perplexity_by_hand(tiny_folder("llama"), text), rel=1e-5)
    assert (found["windows"], found["window_length"], found["predicted_tokens"]) == (4, LENGTH, 4 * 31)
    assert (data["model"]["layers"], data["against"]["layers"], data["speed"]) == (4, 6, {})
    assert json.loads(json.dumps(data)) == data


def test_one_model_alone(tiny_folder: Tiny, text: Path, policy: SourcePolicy) -> None:
    data = measure(tiny_folder("gpt2"), None, policy, perplexity=[f"text:{text}"])
    found = data["perplexity"][f"text:{text}"]
    assert (data["against"], found["dense"]) == (None, None)
    assert found["pruned"] == pytest.approx(perplexity_by_hand(tiny_folder("gpt2"), text), rel=1e-5)


def test_speed_of_two_has_the_ceiling_of_the_missing_layers(
    tiny_folder: Tiny, pruned: Path, text: Path, policy: SourcePolicy
) -> None:
    data = measure(pruned, tiny_folder("llama"), policy, perplexity=[f"text:{text}"], speed=SPEED)
    assert set(data["speed"]) == {"prompt", "generation"}
    for found in data["speed"].values():
        assert 1 < found["ceiling"] <= 1.5
    same = measure(pruned, pruned, policy, perplexity=[f"text:{text}"], speed=SPEED)
    assert all(found["ceiling"] == 1 for found in same["speed"].values())


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a model is opened."""

    def opened(*_: object) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr(comparison, "materialize", opened)


@pytest.mark.parametrize(
    ("against", "evaluation", "pointer"),
    [
        ("nowhere", {}, "/against"),
        (None, {"speed": True}, "/evaluation/speed"),
        (None, {"window_length": 129}, "/evaluation/window_length"),
        (None, {"window_length": 128, "perplexity": ["text:SHORT"]}, "/evaluation/perplexity/0"),
        (None, {"perplexity": ["python-docs", "text:none"]}, "/evaluation/perplexity/1"),
        (None, {"perplexity": ["ptb"]}, "/evaluation/perplexity/0"),
    ],
)
def test_refused_before_any_work(
    tiny_folder: Tiny,
    tmp_path: Path,
    policy: SourcePolicy,
    untouched: None,
    against: str | None,
    evaluation: dict[str, Any],
    pointer: str,
) -> None:
    short = tmp_path / "short.txt"
    short.write_text("x" * 127)
    if "perplexity" in evaluation:
        names = [name.replace("SHORT", str(short)) for name in evaluation["perplexity"]]
        evaluation = {**evaluation, "perplexity": names}
    with pytest.raises(InputRefused) as caught:
        measure(tiny_folder("llama"), against, policy, **evaluation)
    assert caught.value.problems[0].pointer == pointer


def test_another_tokenizer_is_refused(
    tmp_path: Path, tiny_folder: Tiny, text: Path, policy: SourcePolicy
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_folder("llama"), other)
    table = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(
        table.replace('"A":', '"swap":').replace('"B":', '"A":').replace('"swap":', '"B":')
    )
    with pytest.raises(InputRefused, match="another tokenizer") as caught:
        measure(tiny_folder("llama"), other, policy, perplexity=[f"text:{text}"])
    assert caught.value.problems[0].pointer == "/against"


def test_it_stops_when_asked(tiny_folder: Tiny, text: Path, policy: SourcePolicy) -> None:
    request = EvaluationRequest.of(
        model=str(tiny_folder("llama")),
        against=None,
        evaluation={"perplexity": [f"text:{text}"], "window_length": LENGTH},
        seed=0,
        device="cpu",
    )
    with pytest.raises(Cancelled):
        evaluate_models(request, tell=lambda _: None, should_stop=lambda: True, policy=policy)
