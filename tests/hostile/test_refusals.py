"""Each made case gets its own refusal, at every door, in bounded time and memory; nothing of it is executed."""

from __future__ import annotations

import pickle
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile.config_cases import CONFIG_CASES
from tests.hostile.conftest import Spoil
from tests.hostile.folder_cases import A_MILLION_FILES, FOLDER_CASES
from tests.hostile.header_cases import HEADER_CASES, THE_LARGEST_HEADER
from tests.hostile.spoiling import MARKER, Case, Malicious, bounded
from trsp_core.config import CompressionSpec
from trsp_core.errors import InputRefused, ModelRefused
from trsp_core.preflight import preflight
from trsp_core.sources import Source, SourcePolicy, inspect, resolve
from trsp_core.sources.validate import check_folder
from trsp_core.surgery import remove_streamed

CASES = {**HEADER_CASES, **CONFIG_CASES, **FOLDER_CASES}
MEMORY = 200 * 2**20
LARGE = ("100 MB", "terabyte", "million", "many", "10,000 deep", "without end", "longest", "512 GB", "zip")
LONGEST_MESSAGE = 1500
pytestmark = pytest.mark.timeout(60)


def refusal(work: Callable[[], object]) -> str:
    """Return the message of a refusal that is fit to be shown; anything else fails."""
    with bounded(), pytest.raises(ModelRefused) as caught:
        work()
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < LONGEST_MESSAGE
    message.encode()
    assert all(problem.pointer == "/model" for problem in caught.value.problems)
    return message


def spec_for(folder: Path) -> CompressionSpec:
    return CompressionSpec.from_dict(
        {
            "model": str(folder),
            "target": {"layers_to_remove": 1},
            "method": {"name": "trsp"},
            "calibration": {"set": "python-docs"},
            "evaluation": {"perplexity": []},
        }
    )


def test_the_model_that_is_spoiled_is_right(right_folder: Path, tmp_path: Path) -> None:
    policy = SourcePolicy(cache_dir=tmp_path)
    assert inspect(resolve(str(right_folder), policy)).layers == 6
    remove_streamed(right_folder, tmp_path / "out", [0, 1, 2])


def test_a_pickle_of_the_corpus_would_run_code(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Malicious(tmp_path / MARKER)))
    (tmp_path / MARKER).unlink()


def test_the_corpus_is_large() -> None:
    assert len(CASES) >= 150


@pytest.mark.parametrize("name", CASES)
def test_refused_by_every_door(name: str, spoiled: Spoil, policy: SourcePolicy, tmp_path: Path) -> None:
    folder = spoiled(CASES[name])
    assert CASES[name].said in refusal(lambda: resolve(str(folder), policy))
    refusal(lambda: check_folder(folder, policy))
    with bounded(), pytest.raises(InputRefused):
        preflight(spec_for(folder), policy)
    with bounded():
        _inspected(folder)
    if "link" not in name:
        with bounded(), pytest.raises(ModelRefused):
            remove_streamed(folder, tmp_path / "out", [0, 1])
        assert not (tmp_path / "out").exists()


def _inspected(folder: Path) -> None:
    """Look into a folder that was spoiled after it was resolved: facts or a refusal, nothing else."""
    try:
        inspect(Source(str(folder), "folder", folder, "revision"))
    except ModelRefused:
        return


@pytest.mark.parametrize("name", [name for name in CASES if any(word in name for word in LARGE)])
def test_refused_in_bounded_memory(name: str, spoiled: Spoil, policy: SourcePolicy) -> None:
    folder = spoiled(CASES[name])
    tracemalloc.start()
    try:
        with pytest.raises(ModelRefused):
            resolve(str(folder), policy)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MEMORY


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", [A_MILLION_FILES, THE_LARGEST_HEADER], ids=["files", "header"])
def test_what_is_slow_to_make_is_refused_at_once(case: Case, spoiled: Spoil, policy: SourcePolicy) -> None:
    folder = spoiled(case)
    assert case.said in refusal(lambda: resolve(str(folder), policy))
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "reference",
    [
        "x" * 5000,
        "a/" * 400 + "x" * 400,
        "~nobody-of-that-name/model",
        "gguf:~nobody-of-that-name/model.gguf",
        "gguf:" + "x" * 600,
        "\ud800",
        "gguf:\ud800",
        "hf:\ud800/x",
        "model\x1b[2J",
        "gguf:a\0b",
        "demo:\0",
        "gguf:",
        "hf:",
        ":",
    ],
)
def test_references_that_no_file_has_are_refused(reference: str, policy: SourcePolicy) -> None:
    refusal(lambda: resolve(reference, policy))
