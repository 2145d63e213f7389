"""Models under a name: checked once, pinned to what was checked, and an allow-list where the operator wants one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from trsp_core.config import CompressionSpec
from trsp_core.errors import InvalidSpec, ModelRefused, Problem, closest
from trsp_core.results import ModelFacts
from trsp_core.sources import Source, SourcePolicy, inspect, resolve
from trsp_jobs.errors import Conflict, ResourceNotFound
from trsp_jobs.inputs import repository
from trsp_jobs.inputs.rows import RegisteredModel
from trsp_jobs.paging import Page

MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
MODEL_NAME_FORM = "1 to 64 lower-case letters, digits, '.', '_' or '-', the first a letter or digit"
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class CheckedModel:
    """A model that was found and checked: its pinned reference, and what its headers tell."""

    reference: str
    facts: ModelFacts


@dataclass(frozen=True, slots=True)
class Pinned:
    """A spec whose model is named by its pinned reference, and the revision that it must have; None for any."""

    spec: CompressionSpec
    revision: str | None


def check_name(name: str) -> str:
    """Return the name of a registered model.

    Raises:
        InvalidSpec: If it can be none.
    """
    if MODEL_NAME.fullmatch(name):
        return name
    message = f"is {name[:80]!r}; a name is {MODEL_NAME_FORM}."
    raise InvalidSpec(Problem("/name", message, name[:80], MODEL_NAME_FORM))


def check_model(reference: str, policy: SourcePolicy) -> CheckedModel:
    """Find a model, judge it by its config and headers, and pin it. It may have to be fetched first.

    Raises:
        ModelRefused: If it is not there, not allowed, or cannot be compressed.
    """
    source = resolve(reference, policy)
    return CheckedModel(_pinned_reference(source), inspect(source))


def _pinned_reference(source: Source) -> str:
    if source.kind != "hub":
        return source.reference
    return f"hf:{source.reference.removeprefix('hf:').partition('@')[0]}@{source.revision}"


def register(session: Session, owner: str, name: str, found: CheckedModel) -> RegisteredModel:
    """Store a checked model under a name; saying the same again changes nothing.

    Raises:
        Conflict: If the name stands for something else.
    """
    facts = found.facts
    values = {
        "name": check_name(name),
        "owner": owner,
        "reference": found.reference,
        "revision": facts.revision,
        "model_type": facts.model_type,
        "layers": facts.layers,
        "parameters": facts.parameters,
    }
    repository.add_model(session, values)
    model = get_model(session, name)
    if model.owner != owner:
        raise Conflict(f"somebody else has registered a model as {name}; take another name")
    if (model.reference, model.revision) != (found.reference, facts.revision):
        message = (
            f"{name} stands for {model.reference} at {model.revision[:12]}; delete it first, or take another"
        )
        raise Conflict(f"{message} name")
    return model


def get_model(session: Session, name: str) -> RegisteredModel:
    """Return a registered model.

    Raises:
        ResourceNotFound: If there is none of that name.
    """
    model = repository.get_model(session, name)
    if model is None:
        raise ResourceNotFound("registered model", name)
    return model


def list_models(
    session: Session, *, after: str | None = None, limit: int = 20, owners: Sequence[str] | None = None
) -> Page[RegisteredModel]:
    """Return registered models of some owners (None: of any) by name."""
    found = repository.list_models(session, after, limit + 1, owners=owners)
    return Page(found[:limit], found[limit - 1].name if len(found) > limit else None)


def delete_model(session: Session, name: str) -> None:
    """Forget a registered model; jobs that were made with it are not touched.

    Raises:
        ResourceNotFound: If there is none of that name.
    """
    if not repository.delete_model(session, name):
        raise ResourceNotFound("registered model", name)


def pin(
    session: Session, spec: CompressionSpec, owners: Sequence[str] | None, *, only_registered: bool
) -> Pinned:
    """Return the spec with its model named by what was checked, where it is a registered one.

    Args:
        session: An open transaction.
        spec: The job spec.
        owners: Whose registered models count; None for anybody's.
        only_registered: Whether any other model is refused.

    Raises:
        ModelRefused: If the model is not registered and must be.
    """
    model = _registered(session, spec.model, owners)
    if model is not None:
        return Pinned(replace(spec, model=model.reference), model.revision)
    if only_registered:
        raise _unregistered(session, spec.model, owners)
    return Pinned(spec, None)


def named(session: Session, reference: str, owners: Sequence[str] | None, *, only_registered: bool) -> str:
    """Return what a reference, or the name of a registered model, stands for; `owners` as `pin` has it.

    Raises:
        ModelRefused: If the model is not registered and must be.
    """
    model = _registered(session, reference, owners)
    if model is None and only_registered:
        raise _unregistered(session, reference, owners)
    return reference if model is None else model.reference


def _registered(session: Session, reference: str, owners: Sequence[str] | None) -> RegisteredModel | None:
    by_name = repository.get_model(session, reference) if MODEL_NAME.fullmatch(reference) else None
    if by_name is not None and (owners is None or by_name.owner in owners):
        return by_name
    return repository.find_model(session, reference, owners)


def _unregistered(session: Session, reference: str, owners: Sequence[str] | None) -> ModelRefused:
    known = tuple(model.name for model in repository.list_models(session, None, _SHOWN, owners=owners))
    listed = f"registered are {', '.join(known)}" if known else "none is registered yet"
    message = f"is {reference[:200]!r}, and this service takes registered models only; {listed}."
    return ModelRefused(Problem("/model", message, reference[:200], known, closest(reference, known)))


def check_revision(pinned: Pinned, facts: ModelFacts) -> None:
    """Refuse a registered model whose content is not what was checked.

    Raises:
        ModelRefused: If it has changed since.
    """
    if pinned.revision is not None and pinned.revision != facts.revision:
        said: Mapping[str, str] = {"then": pinned.revision[:12], "now": facts.revision[:12]}
        message = (
            f"is {facts.reference!r}, whose content has changed since it was registered ({said['then']} then,"
            f" {said['now']} now); delete the registration and register it anew."
        )
        raise ModelRefused(Problem("/model", message, facts.reference))
