"""Chunked losses equal the plain ones, in value and in gradient."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tests.trsp_core.tiny_lms import CONFIGS, tiny_lm
from trsp_core.evaluation import losses
from trsp_core.evaluation.losses import (
    final_hidden_states,
    mean_kl,
    mean_loss,
    mean_loss_of_hidden,
    mean_mixture,
    output_head,
    token_losses,
)


def _ids(seed: int = 3) -> torch.Tensor:
    return torch.randint(0, 97, (3, 11), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", list(CONFIGS))
def test_mean_loss_is_the_model_s_own(name: str) -> None:
    model, ids = tiny_lm(name), _ids()
    wanted = model(ids, labels=ids).loss
    assert mean_loss(model, ids, chunk_tokens=4).item() == pytest.approx(wanted.item(), abs=1e-5)
    assert mean_loss(model, ids).item() == pytest.approx(wanted.item(), abs=1e-5)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_gradient_is_the_model_s_own(name: str) -> None:
    model, ids = tiny_lm(name), _ids()
    (3 * model(ids, labels=ids).loss).backward()
    wanted = {key: value.grad.clone() for key, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    (3 * mean_loss(model, ids, chunk_tokens=7)).backward()
    found = {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, atol=1e-5, rtol=1e-4, msg=key)


def test_gradient_reaches_hidden_states_through_a_frozen_head() -> None:
    model, ids = tiny_lm("llama"), _ids()
    model.requires_grad_(False)
    gate = torch.ones((), requires_grad=True)
    hidden = final_hidden_states(model, ids) * gate
    losses.mean_loss_of_hidden(hidden, output_head(model), ids, chunk_tokens=5).backward()
    assert gate.grad is not None
    assert gate.grad.item() != 0


def test_kl_is_torch_s_own_in_value_and_gradient() -> None:
    student, teacher, ids = tiny_lm("qwen3"), tiny_lm("qwen3", seed=1), _ids()
    with torch.no_grad():
        target = functional.log_softmax(teacher(ids).logits, dim=-1)
        teacher_hidden = final_hidden_states(teacher, ids)
    found = functional.log_softmax(student(ids).logits, dim=-1)
    wanted = functional.kl_div(found, target, reduction="sum", log_target=True) / ids.numel()
    wanted.backward()
    gradients = [item.grad.clone() for item in student.parameters()]
    student.zero_grad()
    hidden = final_hidden_states(student, ids)
    value = mean_kl(hidden, output_head(student), teacher_hidden, output_head(teacher), chunk_tokens=4)
    value.backward()
    assert value.item() == pytest.approx(wanted.item(), abs=1e-5)
    assert value.item() > 0
    for item, gradient in zip(student.parameters(), gradients, strict=True):
        torch.testing.assert_close(item.grad, gradient, atol=1e-5, rtol=1e-4)


def test_the_mixture_is_the_weighted_mean_of_both_in_value_and_gradient() -> None:
    student, teacher, ids = tiny_lm("llama"), tiny_lm("llama", seed=1), _ids()
    head = output_head(student)
    with torch.no_grad():
        wanted_states = final_hidden_states(teacher, ids)
    hidden = final_hidden_states(student, ids)
    lm = mean_loss_of_hidden(hidden, head, ids)
    kl = mean_kl(hidden[:, :-1], head, wanted_states[:, :-1], head)
    expected = (lm + 0.3 * kl) / 1.3
    (gradient,) = torch.autograd.grad(expected, hidden, retain_graph=True)
    mixed = mean_mixture(hidden, head, ids, wanted_states, distill_weight=0.3, chunk_tokens=5)
    (found,) = torch.autograd.grad(mixed.total, hidden)
    assert mixed.total.item() == pytest.approx(expected.item(), abs=1e-5)
    assert (mixed.lm, mixed.distill) == pytest.approx((lm.item(), kl.item()), abs=1e-5)
    torch.testing.assert_close(found, gradient, atol=1e-6, rtol=1e-4)


def test_kl_of_a_model_to_itself_is_zero() -> None:
    model, ids = tiny_lm("gpt2"), _ids()
    head, hidden = output_head(model), final_hidden_states(model, ids)
    assert mean_kl(hidden, head, hidden, head).item() == pytest.approx(0, abs=1e-6)


def test_token_losses_have_one_figure_a_predicted_token() -> None:
    model, ids = tiny_lm("phi"), _ids()
    found = token_losses(final_hidden_states(model, ids), output_head(model), ids, chunk_tokens=7)
    assert found.shape == (3, 10)
    assert not found.requires_grad
    assert found.mean().item() == pytest.approx(model(ids, labels=ids).loss.item(), abs=1e-5)


@pytest.mark.parametrize("gradient", [False, True])
def test_no_more_logits_than_a_chunk_are_ever_held(gradient: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CHUNK_ELEMENTS", 97 * 6)
    model, ids = tiny_lm("llama"), _ids()
    seen: list[int] = []
    model.lm_head.register_forward_hook(lambda module, args, output: seen.append(output.shape[0]))
    with torch.set_grad_enabled(gradient):
        loss = mean_loss(model, ids)
    if gradient:
        loss.backward()
    assert seen == [6, 6, 6, 6, 6]
