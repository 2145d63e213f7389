"""What the local commands refuse: with exit code 2, the field, the value and what would be right; nothing is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trsp_cli.conftest import Said
from tests.trsp_cli.local_work import PERPLEXITY, PRUNE, TEXT, TWO, tree

Trsp = Callable[..., Said]

# Refusals: (command line, what a person must read); what it was is named, and what would be right.
LIMITED = (*TEXT, *PERPLEXITY, "--out", "out")
REFUSED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "sparsity 0": (("--sparsity", "0"), ("--sparsity: is 0.0; it must be above 0 and below 1.",)),
    "sparsity 1": (("--sparsity", "1"), ("--sparsity: is 1.0; it must be above 0 and below 1.",)),
    "sparsity out of reach": (
        ("--sparsity", "0.9"),
        ("--sparsity: is 0.9, which means 5 of 6 layers", "at most 4 can go (--sparsity 0.749)"),
    ),
    "layers out of reach": (
        ("--layers-to-remove", "4", "--set", "protect_first=2"),
        ("--layers-to-remove: is 4", "at most 3 can go", "lower --set protect_first"),
    ),
    "no target": ((), ("TARGET: must have exactly one of --sparsity, --layers-to-remove", "it has none")),
    "two targets": (
        ("--sparsity", "0.3", "--max-params", "1M"),
        ("TARGET: must have exactly one of", "it has --sparsity and --max-params"),
    ),
    "a speed out of reach": (
        ("--speedup", "4"),
        ("--speedup: is 4; with at most 4 of 6 layers gone", "more than 3 times as fast"),
    ),
    "a ratio that the method cannot tell": (
        ("--max-perplexity-ratio", "1.2", "--method", "shortgpt"),
        ("--max-perplexity-ratio: is 1.2; shortgpt does not measure", "trsp, sleb"),
    ),
    "no number of parameters": (
        ("--max-params", "many"),
        ("--max-params: is 'many'; it must be a number such as 100M or 6.5B.",),
    ),
    "parameters out of reach": (
        ("--max-params", "1K"),
        ("--max-params: is 1,000", "23,840 parameters are left"),
    ),
    "no number": (("--sparsity", "a quarter"), ("--sparsity: is 'a quarter'; it must be a number.",)),
    "no whole number": (
        ("--layers-to-remove=2.5",),
        ("--layers-to-remove: is '2.5'; it must be a whole number.",),
    ),
    "unknown flag": (("--sparsty", "0.3"), ("No such option: --sparsty", "--sparsity")),
    "unknown option": (
        (*TWO, "--set", "lamda1=1"),
        ("--set lamda1: is not a known field", "mean 'lambda1'?"),
    ),
    "option out of range": (
        (*TWO, "--set", "lambda1=-1"),
        ("--set lambda1: is -1.0; it must be at least 0.",),
    ),
    "option of another kind": (
        (*TWO, "--set", "stage2_steps=many"),
        ("--set stage2_steps: is 'many' (a string); it must be a whole number.",),
    ),
    "option without =": ((*TWO, "--set", "lambda1"), ("--set: is 'lambda1'; it must be key=value",)),
    "nested option": (
        (*TWO, "--set", "evaluation.speed.batch=0"),
        ("--set evaluation.speed.batch: is 0; it must be at least 1.",),
    ),
    "unknown precision": (
        (*TWO, "--set", "dtype=float61"),
        ("--set dtype: is 'float61'", "Did you mean 'float16'?"),
    ),
    "unknown method": (
        (*TWO, "--method", "trps"),
        ("--method: is 'trps', which is no known method; known are trsp, shortgpt", "mean 'trsp'?"),
    ),
    "unknown device": (
        (*TWO, "--device", "gpu"),
        ("--device: is 'gpu'; it must be auto, cpu, cuda or cuda:N.",),
    ),
    "no such device": ((*TWO, "--device", "cuda:99"), ("--device: is 'cuda:99', but", "use auto or cpu")),
    "tasks": ((*TWO, "--tasks", "piqa"), ("--tasks: zero-shot tasks are not in this release",)),
    "no sequences": (
        (*TWO, "--sequences", "0"),
        ("--sequences: is 0; it must be at least 1 and at most 1,000,000.",),
    ),
    "sequence too long": (
        (*TWO, "--sequence-length", "4096"),
        ("--sequence-length: is 4096; this model takes at most 128 tokens.",),
    ),
    "window too long": (
        (*TWO, "--window-length", "4096"),
        ("--window-length: is 4096; this model takes at most 128 tokens.",),
    ),
    "empty text": (
        (*TWO, "--calibration", "text:empty.txt"),
        ("--calibration: text:empty.txt is an empty file.",),
    ),
    "text too short": (
        (*TWO, "--calibration", "text:short.txt"),
        ("--calibration: text:short.txt has 9 bytes, too few for one window of 32 tokens.",),
    ),
    "few tokens in many bytes": (
        (*TWO, "--calibration", "jsonl:few.jsonl"),
        ("--calibration: jsonl:few.jsonl has 3 tokens, fewer than one window of 32; take a shorter window.",),
    ),
    "no such text": (
        (*TWO, "--calibration", "text:none.txt"),
        ("--calibration: text:none.txt names no file",),
    ),
    "unknown set": (
        (*TWO, "--calibration", "wikitex2"),
        ("--calibration: is 'wikitex2', which is no known calibration set", "mean 'wikitext2'?"),
    ),
    "hub set": (
        (*TWO, "--calibration", "ptb"),
        ("--calibration: ptb is a data set of the hub, and hub access is off. Set TRSP_HUB_ENABLED=1",),
    ),
    "evaluation text too short": (
        (*TWO, "--perplexity", "text:text.txt,text:short.txt"),
        ("--perplexity: text:short.txt has 9 bytes",),
    ),
    "no evaluation text": ((*TWO, "--perplexity", ","), ("--perplexity: must name at least one set.",)),
    "folder with other things": (
        (*TWO, "--out", "full"),
        ("the output folder", "full exists and is neither empty nor a checkpoint; choose another folder."),
    ),
    "a file": ((*TWO, "--out", "text.txt"), ("text.txt is a file; choose another place.",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_prune_refuses(trsp: Trsp, here: Path, case: str) -> None:
    arguments, wanted = REFUSED[case]
    before = tree(here)
    said = trsp("prune", "llama", *LIMITED, *arguments)
    assert (said.code, said.out) == (2, ""), said.err
    last = said.err.splitlines()[-1]
    assert last.startswith("error ")
    for words in wanted:
        assert words in last
    assert tree(here) == before


MODELS = {
    "unknown": ("model_type 'llamma'", "docs/architectures.md lists the", "Did you mean 'llama'?"),
    "coded": ("config.json holds auto_map, which names code",),
    "pickled": ("holds only pickled weights", "Convert them to safetensors"),
    "nowhere": ("nowhere is no folder; give a folder, hf:ORG/NAME[@REVISION]",),
    "hf:org/name": ("hub access is off. Set TRSP_HUB_ENABLED=1",),
    "org/name": ("org/name is no folder here", "Set TRSP_HUB_ENABLED=1"),
    "gguf:none.gguf": ("'none.gguf' is no file; give gguf:FILE.",),
    "demo:small": ("demo:small is no demo model; there is smollm2-135m.",),
    "s3://bucket/model": ("S3 access is off. Set TRSP_S3_ENABLED=1",),
    "gs://bucket/model": ("an address of that kind is not read here",),
    "": ("give a folder",),
}


@pytest.mark.parametrize("command", ["prune", "plan", "remove", "evaluate"])
@pytest.mark.parametrize("model", MODELS)
def test_a_model_is_refused_by_every_command(trsp: Trsp, here: Path, command: str, model: str) -> None:
    rest = {
        "prune": (*TWO, *LIMITED),
        "plan": (*TWO, *TEXT, "--out", "out"),
        "remove": ("--layers", "1", "--out", "out"),
        "evaluate": PERPLEXITY,
    }
    before = tree(here)
    said = trsp(command, model, *rest[command])
    assert (said.code, said.out) == (2, ""), said.err
    assert said.err.startswith("error MODEL: ")
    for words in MODELS[model]:
        assert words in said.err
    assert tree(here) == before


def test_several_mistakes_are_told_at_once_and_as_json_by_pointers(trsp: Trsp, here: Path) -> None:
    arguments = ("prune", "llama", *LIMITED, "--sparsity", "3", "--sequences", "0", "--device", "gpu")
    said = trsp(*arguments)
    assert [line.split()[1] for line in said.err.splitlines()] == ["--sparsity:", "--sequences:"]
    error = trsp(*arguments, "--json").json["error"]
    assert [item["pointer"] for item in error["errors"]] == ["/target/sparsity", "/calibration/sequences"]
    assert (error["code"], error["exit_code"]) == ("invalid_spec", 2)


def test_a_required_option_is_named_with_what_it_takes(trsp: Trsp, here: Path) -> None:
    said = trsp("prune", "llama", *TWO, "--out", "out")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("error Missing option '--calibration'. Text to learn from: python-docs, ")


def test_a_folder_of_another_command_is_refused(trsp: Trsp, here: Path, trusting: None) -> None:
    assert trsp(*PRUNE, *TWO, "--out", "out").code == 0
    before = tree(here)
    said = trsp(*PRUNE, "--sparsity", "0.5", "--out", "out", "--set", "lambda1=1")
    assert said.code == 2
    assert "belongs to another job, with another method.lambda1, target" in said.err
    assert tree(here) == before


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ((), "--layers: give exactly one of --layers and --plan."),
        (("--layers", "1", "--plan", "plan.json"), "--layers: give exactly one of"),
        (("--layers", "1,6"), "--layers: is 1,6; it must be different indices from 0 to 5, and not all"),
        (("--layers", "1,1"), "--layers: is 1,1; it must be different indices"),
        (("--layers", "0,1,2,3,4,5"), "and not all of them."),
        (("--layers", "first"), "--layers: is 'first'; it must be 0-based layer indices joined by commas"),
        (("--layers", ","), "--layers: is ','"),
        (("--plan", "none.json"), "--plan: is none.json, which cannot be read: No such file or directory."),
        (("--plan", "text.txt"), "--plan: is text.txt, which is no plan. Give a file that `trsp plan` wrote"),
        (("--plan", "llama/config.json"), "which is no plan"),
        (("--plan", "deeper.json"), "--plan: is a plan for a model of 30 layers; this one has 6."),
        (("--layers", "1", "--out", "full"), "full is not empty; give a new folder."),
        (("--layers", "1", "--out", "text.txt"), "text.txt is a file; give a folder."),
    ],
)
def test_remove_refuses(trsp: Trsp, here: Path, arguments: tuple[str, ...], wanted: str) -> None:
    (here / "deeper.json").write_text('{"removed_layers": [1], "layers": 30}')
    before = tree(here)
    said = trsp("remove", "llama", "--out", "out", *arguments)
    assert (said.code, said.out) == (2, "")
    assert wanted in said.err
    assert tree(here) == before


def test_plan_refuses_a_file_that_is_there(trsp: Trsp, here: Path) -> None:
    said = trsp("plan", "llama", *TWO, *TEXT, "--out", "text.txt")
    assert (said.code, said.err) == (2, "error --out: is text.txt, which exists; choose another file.\n")


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("--speed",), "--speed: needs a dense model to be measured beside: add --against."),
        (("--against", "nowhere"), "--against: nowhere is no folder"),
        (("--against", "coded"), "--against: config.json holds auto_map"),
        (("--windows", "0"), "--windows: is 0; it must be at least 1."),
        (("--window-length", "500"), "--window-length: is 500; this model takes at most 128 tokens."),
        (("--perplexity", "text:short.txt"), "--perplexity: text:short.txt has 9 bytes"),
        (("--set", "lambda1=3"), "--set: is 'lambda1=3'; only fields of the evaluation"),
        (("--set", "evaluation.windws=3"), "--set evaluation.windws: is not a known field"),
    ],
)
def test_evaluate_refuses(trsp: Trsp, here: Path, arguments: tuple[str, ...], wanted: str) -> None:
    said = trsp("evaluate", "llama", *PERPLEXITY, *arguments)
    assert (said.code, said.out) == (2, "")
    assert wanted in said.err


def test_files_outside_the_roots_are_refused(trsp: Trsp, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRSP_FILE_ROOTS", str(here / "llama"))
    said = trsp("evaluate", "llama", *PERPLEXITY)
    assert said.code == 2
    assert "--perplexity: text:text.txt lies outside the folders that may be read" in said.err
