import json
from dataclasses import asdict
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from trsp_core import registry
from trsp_core.config import CompressionSpec, spec_schema
from trsp_core.errors import InvalidSpec
from trsp_core.method_options import TrspOptions
from trsp_core.options import rules

SHORT = {"model": "m", "sparsity": 0.25, "calibration": "wikitext2"}


def problems_of(data: Any) -> dict[str, Any]:
    with pytest.raises(InvalidSpec) as caught:
        CompressionSpec.from_dict(data)
    return {problem.pointer: problem for problem in caught.value.problems}


def test_the_shortest_spec_is_a_whole_job() -> None:
    spec = CompressionSpec.from_dict(SHORT)
    assert spec.target.sparsity == 0.25
    assert spec.method.options == TrspOptions()
    assert spec.calibration.set == "wikitext2"
    assert spec.evaluation.perplexity == ("python-docs",)


def test_the_full_form_reads_back_as_the_same_spec() -> None:
    spec = CompressionSpec.from_dict({**SHORT, "method": "shortgpt", "evaluation": {"speed": True}})
    again = CompressionSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert again.fingerprint() == spec.fingerprint()


def test_another_value_gives_another_fingerprint() -> None:
    base = CompressionSpec.from_dict(SHORT).fingerprint()
    assert CompressionSpec.from_dict({**SHORT, "method": {"lambda1": 0.1}}).fingerprint() != base


def test_what_follows_a_baseline_has_its_defaults_from_trsp() -> None:
    tuned = CompressionSpec.from_dict({**SHORT, "method": "magnitude+tune"}).method.options
    options = asdict(tuned)
    assert (options.pop("protect_first"), options.pop("protect_last")) == (4, 2)
    assert options == {name: getattr(TrspOptions(), name) for name in options}
    assert "gate" not in options
    assert problems_of({**SHORT, "method": "sleb+tun"})["/method/name"].suggestion == "sleb+tune"


def test_all_problems_are_told_at_once() -> None:
    found = problems_of(
        {
            "model": 3,
            "sparsity": 1,
            "calibration": {"set": "wikitxt2", "sequences": 0},
            "method": {"name": "trsp", "lambda": 1, "gate": "resdual"},
            "evaluation": {"perplexity": [], "tasks": ["piqa"]},
            "colour": "red",
        }
    )
    assert {"/model", "/target/sparsity", "/calibration/sequences", "/method/gate", "/colour"} <= set(found)
    assert found["/method/lambda"].suggestion == "lambda2"
    assert found["/method/gate"].suggestion == "residual"
    assert found["/target/sparsity"].allowed == "above 0 and below 1"


@pytest.mark.parametrize(
    ("data", "pointer", "word"),
    [
        ({**SHORT, "sparsity": 0}, "/target/sparsity", "above 0"),
        ({**SHORT, "sparsity": float("nan")}, "/target/sparsity", "nan"),
        ({**SHORT, "sparsity": True}, "/target/sparsity", "a number"),
        ({**SHORT, "target": {"sparsity": 0.1}}, "/sparsity", "beside target"),
        ({"model": "m", "calibration": "c4", "target": {}}, "/target", "exactly one"),
        (
            {"model": "m", "calibration": "c4", "target": {"sparsity": 0.1, "speedup": 1.2}},
            "/target",
            "sparsity and speedup",
        ),
        ({**SHORT, "calibration": "wikitxt2"}, "/calibration/set", "wikitext2"),
        ({**SHORT, "calibration": "text:"}, "/calibration/set", "text:FILE"),
        ({**SHORT, "calibration": "c4:x"}, "/calibration/set", "no argument"),
        ({**SHORT, "method": "trps"}, "/method/name", "trps"),
        ({**SHORT, "method": "sleb+tun"}, "/method/name", "NAME+absorb or NAME+tune"),
        ({**SHORT, "method": {"name": "sleb", "stage2_steps": 3}}, "/method/stage2_steps", "not a known"),
        (
            {**SHORT, "method": {"name": "sleb+tune", "stage2_steps": -1}},
            "/method/stage2_steps",
            "at least 0",
        ),
        ({**SHORT, "method": {"name": "last", "gate": "output"}}, "/method/gate", "not a known field"),
        ({**SHORT, "evaluation": {"tasks": ["piqa"]}}, "/evaluation/tasks", "this release"),
        ({**SHORT, "evaluation": {"perplexity": ["nope"]}}, "/evaluation/perplexity/0", "nope"),
        ({**SHORT, "evaluation": {"speed": {"batch": 0}}}, "/evaluation/speed/batch", "at least 1"),
        ({**SHORT, "export": {"formats": ["onnx"]}}, "/export/formats/0", "safetensors, gguf"),
        ({**SHORT, "device": "gpu"}, "/device", "cuda:N"),
        ({**SHORT, "dtype": "float8"}, "/dtype", "float32"),
        ({**SHORT, "model": "  "}, "/model", "empty"),
        ([], "", "object"),
    ],
)
def test_each_refusal_names_field_and_remedy(data: Any, pointer: str, word: str) -> None:
    problem = problems_of(data)[pointer]
    assert word in str(problem)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_no_json_crashes_the_reader(value: Any) -> None:
    for data in (
        value,
        {**SHORT, "method": value},
        {**SHORT, "target": value},
        {**SHORT, "evaluation": value},
    ):
        try:
            spec = CompressionSpec.from_dict(data)
        except InvalidSpec as error:
            assert error.problems
            json.dumps([problem.to_dict() for problem in error.problems], allow_nan=False)
        else:
            assert CompressionSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize("name", sorted(registry.METHODS))
def test_every_option_says_what_it_is(name: str) -> None:
    declared = rules(registry.METHODS[name].options)
    assert declared
    assert all(len(rule.about) > 10 for rule in declared.values())


def test_every_option_is_read_by_some_module() -> None:
    from pathlib import Path

    import trsp_core

    folder = Path(trsp_core.__file__).parent
    sources = [path for path in folder.rglob("*.py") if path.name != "method_options.py"]
    code = "\n".join(path.read_text() for path in sources)
    names = {name for entry in registry.METHODS.values() for name in rules(entry.options)}
    unread = [name for name in sorted(names) if f"options.{name}" not in code]
    assert unread == []


def test_the_schema_takes_what_the_reader_takes() -> None:
    schema = spec_schema()
    assert set(CompressionSpec.from_dict(SHORT).to_dict()) | {"sparsity"} == set(schema["properties"])
    assert schema["properties"]["calibration"]["anyOf"][0] == {"type": "string"}
    names = [item["title"] for item in schema["properties"]["method"]["anyOf"][1:]]
    assert names == list(registry.METHODS)
    json.dumps(schema, allow_nan=False)
