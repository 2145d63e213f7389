"""What every registered export format keeps to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.trsp_core.conftest import save_tiny
from trsp_core import registry
from trsp_core.config import CompressionSpec
from trsp_core.errors import ModelRefused
from trsp_core.export.base import Exporter

FORMATS = sorted(name for name, entry in registry.EXPORTS.items() if entry.target)


@pytest.mark.parametrize("name", FORMATS)
def test_a_model_that_cannot_be_carried_is_refused_for_the_field_that_asks(name: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "opt", "opt")
    exporter: Exporter = registry.load(str(registry.EXPORTS[name].target))()
    with pytest.raises(ModelRefused) as caught:
        exporter.check(folder)
    assert {problem.pointer for problem in caught.value.problems} == {"/export/formats"}
    assert [path for path in tmp_path.iterdir() if path != folder] == []


@pytest.mark.parametrize("name", FORMATS)
def test_the_check_before_a_job_needs_no_torch(name: str) -> None:
    code = (
        "import sys; from trsp_core import registry; "
        f"registry.load(registry.EXPORTS[{name!r}].check); "
        "sys.exit(' '.join({'torch', 'transformers', 'numpy', 'gguf'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(registry.EXPORTS))
def test_every_format_can_be_asked_for_and_says_what_it_is(name: str) -> None:
    spec = CompressionSpec.from_dict(
        {"model": "m", "sparsity": 0.2, "calibration": "python-docs", "export": {"formats": [name]}}
    )
    assert spec.export.formats == (name,)
    assert registry.EXPORTS[name].summary
