"""A model folder becomes a GGUF file that transformers loads as the same model with the same tokenizer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaTokenizer
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from tests.trsp_core.conftest import tiny_model
from tests.trsp_core.gguf_files import SIZE, SPLITS, save_bpe, values
from tests.trsp_core.test_pipeline import spec_of
from trsp_core.checkpoint import load_tokenizer
from trsp_core.config import CompressionSpec, Export
from trsp_core.errors import Cancelled, InputRefused, ModelRefused, NumericalFailure, RoundTripFailed
from trsp_core.export import gguf_check, gguf_check_child, gguf_tensors
from trsp_core.export.base import Origin
from trsp_core.export.gguf import GgufExport, prove_gguf, write_gguf
from trsp_core.export.gguf_check import TEXTS, gguf_tokenizer
from trsp_core.export.gguf_check_child import round_weights
from trsp_core.export.gguf_models import check_source
from trsp_core.export.gguf_vocabulary import SPLITS as SPLITS_BY_EXPRESSION
from trsp_core.export.gguf_vocabulary import read_vocabulary
from trsp_core.manifest import mismatches
from trsp_core.pipeline import compress
from trsp_core.preflight import preflight
from trsp_core.results import RoundTrip
from trsp_core.sources import Source, SourcePolicy, inspect

CHANGES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": None},
    "qwen2": {"use_sliding_window": False},
    "qwen3": {"use_sliding_window": False, "head_dim": 128},
    "phi3": {},
}
LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}
LLAMA3 = {
    **LINEAR,
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
ORIGIN = Origin("Tiny", (0, 2), 4)


def saved(folder: Path, family: str, *, split: str = "gpt-2", dtype: Any = None, **changes: Any) -> Path:
    model = tiny_model(family, **{"vocab_size": SIZE, **CHANGES.get(family, {}), **changes})
    model.to(dtype or torch.float32).save_pretrained(folder)
    save_bpe(folder, split)
    return folder


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prove files in this process; that a fresh one does it too is tested once."""
    monkeypatch.setattr(gguf_check, "_run", gguf_check_child.main)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(torch.arange(40).reshape(2, 20)).logits


def loaded(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with a trained tokenizer; not to be changed."""
    return saved(tmp_path_factory.mktemp("llama"), "llama")


@pytest.mark.parametrize("family", sorted(CHANGES))
def test_float32_is_the_same_model(family: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", family)
    path = tmp_path / "out.gguf"
    write_gguf(folder, path, "f32", ORIGIN)
    expected = logits(AutoModelForCausalLM.from_pretrained(folder))
    torch.testing.assert_close(logits(loaded(path)), expected, atol=1e-5, rtol=0)


def factor(index: int) -> float:
    """Return Llama 3.1's factor of a frequency as it was published, for heads of 8 and `LLAMA3`."""
    length = 2 * math.pi * 1e4 ** (index / 4)
    if length < 128 / 4:
        return 1.0
    if length > 128:
        return 4.0
    smooth = (128 / length - 1.0) / (4.0 - 1.0)
    return 1.0 / ((1 - smooth) / 4.0 + smooth)


@pytest.mark.parametrize(
    ("rotation", "factors"), [(LINEAR, [4.0] * 4), (LLAMA3, [factor(index) for index in range(4)])]
)
def test_rope_scaling_becomes_the_tensor_that_llama_cpp_divides_by(
    rotation: dict[str, Any], factors: list[float], tmp_path: Path, in_process: None
) -> None:
    folder = saved(tmp_path / "model", "llama", rope_parameters=rotation, max_position_embeddings=512)
    path = tmp_path / "out.gguf"
    write_gguf(folder, path, "f16", ORIGIN)
    found = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    assert found["rope_freqs.weight"].tolist() == pytest.approx(factors, rel=1e-5)
    assert rotation is LINEAR or len({round(value, 3) for value in factors}) == 3
    assert "with the folder's config" in prove_gguf(folder, path, "f16")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("kind", "most"), [("f16", 0.01), ("q8_0", 0.1)])
def test_other_types_are_the_rounded_model(kind: str, most: float, dtype: Any, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", "llama", dtype=dtype, tie_word_embeddings=False)
    path = tmp_path / "out.gguf"
    write_gguf(folder, path, kind, ORIGIN)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    exact = logits(model)
    round_weights(model, kind.upper())
    torch.testing.assert_close(logits(loaded(path)), logits(model), atol=1e-5, rtol=0)
    assert (logits(model) - exact).norm() / exact.norm() < most


def test_the_file_says_what_it_is_and_where_it_comes_from(llama: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.gguf"
    write_gguf(llama, path, "q8_0", ORIGIN)
    told = values(path)
    assert (told["general.architecture"], told["general.name"]) == ("llama", "Tiny")
    assert (told["trsp.kept_layers"], told["trsp.source_layers"]) == ([0, 2], 4)
    assert told["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0
    assert len(told["tokenizer.ggml.tokens"]) == told["llama.vocab_size"] == SIZE
    assert told["tokenizer.chat_template"].startswith("{% for")
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}
    assert "output.weight" not in kinds
    assert kinds["blk.0.attn_norm.weight"] == "F32"
    assert kinds["token_embd.weight"] == kinds["blk.5.ffn_gate.weight"] == "Q8_0"
    assert kinds["blk.5.ffn_down.weight"] == "F16", "rows of 48 are no whole blocks"


@pytest.mark.parametrize("split", [*sorted(SPLITS), "sentencepiece"])
def test_the_tokenizer_gives_the_same_ids(split: str, llama: Path, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", "llama", split=split)
    GgufExport().check(folder)
    path = tmp_path / "out.gguf"
    write_gguf(folder, path, "f32", ORIGIN, tensors=[])
    ours, theirs = load_tokenizer(folder), gguf_tokenizer(path)
    for text in (*TEXTS, "the two hot", "</s> in the text"):
        assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    told = values(path)
    pre, model = ("default", "llama") if split == "sentencepiece" else (split, "gpt2")
    assert (told["tokenizer.ggml.pre"], told["tokenizer.ggml.model"]) == (pre, model)
    kinds = told["tokenizer.ggml.token_type"]
    assert kinds[ours.bos_token_id] == 3
    assert kinds[-1] == 5
    if split == "sentencepiece":
        assert (kinds[0], kinds[3], told["tokenizer.ggml.add_bos_token"]) == (2, 6, True)
        scores = dict(zip(told["tokenizer.ggml.tokens"], told["tokenizer.ggml.scores"], strict=True))
        assert scores["▁t"] > scores["he"] > scores["▁the"] > scores["wo"] > scores["w"]


def test_splitting_rules_are_those_that_readers_have_for_the_names() -> None:
    assert {name: GGUF_PRE_TOKENIZER_SPLITS[name] for name in SPLITS_BY_EXPRESSION.values()} == {
        name: expression for expression, name in SPLITS_BY_EXPRESSION.items()
    }


def test_pieces_of_any_size_give_the_same_file(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("f32", "q8_0"):
        write_gguf(llama, tmp_path / "whole.gguf", kind, ORIGIN)
        monkeypatch.setattr(gguf_tensors, "PIECE_BYTES", 100)
        write_gguf(llama, tmp_path / "pieces.gguf", kind, ORIGIN)
        monkeypatch.undo()
        assert (tmp_path / "whole.gguf").read_bytes() == (tmp_path / "pieces.gguf").read_bytes()


def test_heads_are_reordered_as_the_format_wants() -> None:
    rows = np.arange(16, dtype=np.float32).reshape(16, 1)
    halves = gguf_tensors._for_rotation(rows, 8)[:, 0]
    assert halves.tolist() == [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]


def test_values_beyond_half_precision_and_a_stop_leave_nothing(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", "llama")
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 3] = 1e5
    model.save_pretrained(folder)
    with pytest.raises(NumericalFailure, match=r"up_proj.weight has values beyond float16"):
        write_gguf(folder, tmp_path / "out.gguf", "f16", ORIGIN)
    with pytest.raises(Cancelled):
        write_gguf(folder, tmp_path / "out.gguf", "f32", ORIGIN, should_stop=lambda: True)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


# Refused before any work


def spec(model: Path, **export: Any) -> CompressionSpec:
    data = {**spec_of(model).to_dict(), "export": {"formats": ["safetensors", "gguf"], **export}}
    return CompressionSpec.from_dict(data)


def refusal(model: Path, policy: SourcePolicy) -> str:
    with pytest.raises(InputRefused) as caught:
        preflight(spec(model), policy)
    assert {problem.pointer for problem in caught.value.problems} == {"/export/formats"}
    return str(caught.value)


@pytest.mark.parametrize(
    ("family", "changes", "said"),
    [
        ("opt", {}, "'opt' models"),
        ("llama", {"attention_bias": True}, "attention_bias"),
        ("llama", {"mlp_bias": True}, "mlp_bias"),
        ("llama", {"hidden_act": "gelu"}, "gelu"),
        ("mistral", {"sliding_window": 8}, "8 of 128 tokens"),
        ("qwen2", {"use_sliding_window": True}, "8 of 128 tokens"),
        ("qwen3", {"head_dim": 16}, "heads of 128"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "dynamic"),
        ("qwen2", {**CHANGES["qwen2"], "rope_parameters": LINEAR}, "this model's is linear"),
    ],
)
def test_what_gguf_cannot_say_is_refused(
    family: str, changes: dict[str, Any], said: str, tmp_path: Path, policy: SourcePolicy
) -> None:
    assert said in refusal(saved(tmp_path / "model", family, **changes), policy)


def spoil(folder: Path, change: Callable[[Any], None]) -> Path:
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return folder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data["model"].update(type="Unigram"), "'Unigram'"),
        (lambda data: data["model"].update(merges=[]), "BPE tokenizers with merges"),
        (lambda data: data.update(normalizer={"type": "Lowercase"}), "Lowercase"),
        (lambda data: data["pre_tokenizer"].update(add_prefix_space=True), "space before the text"),
        (lambda data: data["pre_tokenizer"].update(use_regex=False), "splitting rule"),
        (lambda data: data.update(pre_tokenizer={"type": "Whitespace"}), "Whitespace"),
        (lambda data: data["model"]["vocab"].update(far=9999), "the id 9999"),
        (lambda data: data["model"].update(vocab=[]), "understood"),
        (lambda data: data.update(model=3), "understood"),
    ],
)
def test_tokenizers_that_gguf_has_no_words_for_are_refused(
    change: Callable[[Any], None], said: str, tmp_path: Path, policy: SourcePolicy
) -> None:
    folder = spoil(saved(tmp_path / "model", "llama"), change)
    assert said in refusal(folder, policy)
    (folder / "tokenizer.json").unlink()
    assert "tokenizer.json" in refusal(folder, policy)


@pytest.mark.parametrize(
    "changes",
    [{"sliding_window": "wide"}, {"rope_parameters": ["default"]}],
)
def test_a_config_of_wrong_types_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", "mistral")
    config = {**json.loads((folder / "config.json").read_text()), **changes}
    (folder / "config.json").write_text(json.dumps(config))
    source = Source("m", "folder", folder, "")
    with pytest.raises(ModelRefused, match="wrong type"):
        check_source(source, inspect(source))


def test_a_vocabulary_that_the_tokenizer_cannot_fill_is_refused_at_once(llama: Path) -> None:
    with pytest.raises(ModelRefused, match="one of them is wrong"):
        read_vocabulary(llama, 10**12)


@pytest.mark.parametrize("bos", [True, False])
def test_a_tokenizer_of_llamas_own_class_goes_through(bos: bool, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", "llama", split="sentencepiece")
    made = json.loads((folder / "tokenizer.json").read_text())["model"]
    merges = [tuple(merge) for merge in made["merges"]]
    for path in folder.glob("tokenizer*"):
        path.unlink()
    LlamaTokenizer(vocab=made["vocab"], merges=merges, add_bos_token=bos).save_pretrained(folder)
    assert (load_tokenizer(folder)("the").input_ids[0] == 1) == bos
    GgufExport().check(folder)


def test_a_tokenizer_that_would_give_other_ids_is_refused(tmp_path: Path) -> None:
    def lowercase_a(data: Any) -> None:
        data["added_tokens"][2].update(content="ox", special=False)
        data["model"]["vocab"]["ox"] = data["model"]["vocab"].pop("<unk>")
        data["added_tokens"][2].update(single_word=True)

    folder = spoil(saved(tmp_path / "model", "llama"), lowercase_a)
    with pytest.raises(ModelRefused, match="other ids for 'The quick brown fox"):
        GgufExport().check(folder)


# In a job, and proved


def test_a_job_writes_proves_and_lists_the_file(
    llama: Path, tmp_path: Path, policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = RoundTrip(True, 0.0, 1e-5, True, "not loaded in this test")
    monkeypatch.setattr("trsp_core.job.round_trip", lambda *_, **__: held)
    out = tmp_path / "out"
    report = compress(spec(llama, gguf_type="q8_0"), workdir=out, policy=policy)
    path = out / "model-q8_0.gguf"
    manifest = json.loads((out / "manifest.json").read_text())
    assert path.name in manifest["files"]
    assert mismatches(out, manifest) == []
    assert any(note.startswith("model-q8_0.gguf: loaded again") for note in report.notes)
    assert values(path)["trsp.kept_layers"] == list(report.plan.kept)
    torch.testing.assert_close(
        logits(loaded(path)), logits(_rounded(out / "model", "Q8_0")), atol=1e-5, rtol=0
    )


def _rounded(folder: Path, kind: str) -> Any:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    round_weights(model, kind)
    return model


def test_a_file_of_an_earlier_attempt_is_only_proved(llama: Path, tmp_path: Path, in_process: None) -> None:
    options, exporter = Export(gguf_type="f32"), GgufExport()
    first = exporter.export(llama, tmp_path, options, ORIGIN)
    made = (tmp_path / "model-f32.gguf").stat().st_ino
    assert exporter.export(llama, tmp_path, options, ORIGIN) == first
    assert first.file == "model-f32.gguf"
    assert (tmp_path / first.file).stat().st_ino == made


def test_a_file_that_cannot_be_read_fails_with_what_was_said_and_goes(llama: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(RoundTripFailed, match="ended with code 1"):
        prove_gguf(llama, path, "f32")
    assert not path.exists()


def test_a_file_that_is_not_the_model_fails_and_goes(llama: Path, tmp_path: Path, in_process: None) -> None:
    path = tmp_path / "out.gguf"
    write_gguf(llama, path, "f32", ORIGIN)
    data = bytearray(path.read_bytes())
    place = next(item for item in gguf.GGUFReader(path).tensors if item.name == "blk.1.attn_q.weight")
    begin, half = int(place.data_offset), int(place.n_bytes) // 2
    data[begin : begin + half], data[begin + half : begin + 2 * half] = (
        data[begin + half : begin + 2 * half],
        data[begin : begin + half],
    )
    path.write_bytes(data)
    with pytest.raises(RoundTripFailed, match="is not the model"):
        prove_gguf(llama, path, "f32")
    assert not path.exists()
