"""Device and precision are decided once, from what is there."""

from __future__ import annotations

import pytest
import torch

from trsp_core.device import place, torch_dtype
from trsp_core.errors import InvalidSpec
from trsp_core.results import ModelFacts


def facts(parameters: int = 1000, stored: str = "bfloat16") -> ModelFacts:
    return ModelFacts(
        reference="m",
        revision="r",
        model_type="llama",
        layers=2,
        parameters=parameters,
        layer_parameters=(10, 10),
        hidden_size=8,
        vocabulary=10,
        max_positions=64,
        stored_bytes=1,
        stored_dtype=stored,
    )


def devices(monkeypatch: pytest.MonkeyPatch, count: int, free: int = 0) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))


def test_auto_is_the_cpu_in_fp32_where_there_is_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    devices(monkeypatch, 0)
    placed = place("auto", "auto", facts())
    assert (placed.device, placed.dtype) == (torch.device("cpu"), torch.float32)


@pytest.mark.parametrize(("free", "dtype"), [(24_000, torch.float32), (23_999, torch.bfloat16)])
def test_auto_on_cuda_works_in_fp32_where_training_fits(
    monkeypatch: pytest.MonkeyPatch, free: int, dtype: torch.dtype
) -> None:
    devices(monkeypatch, 1, free)
    placed = place("auto", "auto", facts(1000))
    assert (placed.device, placed.dtype) == (torch.device("cuda:0"), dtype)


def test_what_is_given_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    devices(monkeypatch, 2)
    assert place("cuda:1", "float16", facts()).device == torch.device("cuda:1")
    assert place("cuda:1", "float16", facts()).dtype == torch.float16
    assert place("cpu", "bfloat16", facts()).dtype == torch.bfloat16


@pytest.mark.parametrize(("name", "count"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_a_cuda_device_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, count: int
) -> None:
    devices(monkeypatch, count)
    with pytest.raises(
        InvalidSpec, match=f"is '{name}', but {count} CUDA devices are visible here"
    ) as caught:
        place(name, "auto", facts())
    assert caught.value.problems[0].pointer == "/device"


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CPU", "mps"])
def test_a_name_that_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(InvalidSpec, match="it must be auto, cpu, cuda or cuda:N"):
        place(name, "auto", facts())


@pytest.mark.parametrize("stored", ["Q4_1", "float8_e4m3fn", "int8", "float64", "nn"])
def test_a_stored_format_that_is_no_dtype_of_the_work_becomes_fp32(stored: str) -> None:
    assert torch_dtype(stored) == torch.float32
