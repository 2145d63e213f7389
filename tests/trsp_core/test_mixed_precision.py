import pytest
import torch
from torch import nn

from trsp_core import mixed_precision
from trsp_core.mixed_precision import has_fast_bfloat16, reduced_products

CPU = torch.device("cpu")


def test_a_changed_weight_is_used_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A context that kept its casts would train against weights that are no more."""
    monkeypatch.setattr(mixed_precision, "has_fast_bfloat16", lambda device: True)
    layer, x = nn.Linear(4, 4), torch.randn(3, 4)
    with reduced_products(CPU, weights=torch.float32):
        before = layer(x)
        with torch.no_grad():
            layer.weight.mul_(2)
            layer.bias.zero_()
        after = layer(x)
    assert before.dtype == after.dtype == torch.bfloat16
    torch.testing.assert_close(after.float(), layer(x), atol=0.05, rtol=0.05)
    assert not torch.allclose(before.float(), after.float(), atol=0.1)


def test_16_bit_weights_and_slow_hardware_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed_precision, "has_fast_bfloat16", lambda device: False)
    with reduced_products(CPU, weights=torch.float32):
        assert nn.Linear(2, 2)(torch.ones(2)).dtype == torch.float32
    monkeypatch.setattr(mixed_precision, "has_fast_bfloat16", lambda device: True)
    with reduced_products(CPU, weights=torch.float16):
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(("names", "fast"), [((), False), (("avx512_bf16",), True), (("amx_bf16",), True)])
def test_the_processor_says_whether_products_are_fast(
    names: tuple[str, ...], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(names, True))
    assert has_fast_bfloat16(CPU) is fast
