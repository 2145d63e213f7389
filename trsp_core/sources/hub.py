"""Models from the Hugging Face hub: pinned to a commit, safetensors only, config judged first."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from trsp_core.sources.companions import COMPANIONS
from trsp_core.sources.policy import HUB_SWITCH, Source, SourcePolicy, refused
from trsp_core.sources.validate import CONFIG, check_config, check_folder, read_json

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_REVISION = re.compile(r"[\w][\w./-]{0,200}")
_PATTERNS = ["*.safetensors", "*.json", *COMPANIONS]


def is_hub_name(text: str) -> bool:
    """Whether `text` has the form ORG/NAME or ORG/NAME@REVISION."""
    name, at, revision = text.partition("@")
    return bool(_NAME.fullmatch(name)) and (not at or bool(_REVISION.fullmatch(revision)))


def resolve_hub(reference: str, name: str, policy: SourcePolicy) -> Source:
    """Return a hub model as a local snapshot, downloaded where that is allowed and needed.

    Only safetensors, JSON, tokenizer and licence files move. Without the hub a snapshot that is already in
    the local cache is used.

    Args:
        reference: The model as it was named.
        name: ORG/NAME or ORG/NAME@REVISION.
        policy: Whether the hub may be asked.

    Raises:
        ModelRefused: If it is not there, not allowed, gated, unreachable or unsafe.
    """
    if not is_hub_name(name):
        raise refused(f"is {reference!r}; a hub model is named ORG/NAME or ORG/NAME@REVISION.", reference)
    repository, _, revision = name.partition("@")
    folder = _snapshot(reference, repository, revision or None, policy)
    check_folder(folder, replace(policy, roots=(folder.parent.parent,)))
    return Source(reference, "hub", folder, folder.name)


def _snapshot(reference: str, repository: str, revision: str | None, policy: SourcePolicy) -> Path:
    if not policy.hub_enabled:
        return _cached(reference, repository, revision)
    from huggingface_hub import errors

    try:
        return _download(repository, revision, quantized=policy.quantized)
    except errors.GatedRepoError as error:
        raise refused(f"{repository} is gated; accept its terms and set HF_TOKEN.", reference) from error
    except errors.RevisionNotFoundError as error:
        raise refused(f"{repository} has no revision {revision!r}.", reference) from error
    except errors.RepositoryNotFoundError as error:
        raise refused(f"the hub has no model {repository}, or it is private.", reference) from error
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise refused(f"the hub could not give {repository}: {_first_line(error)}", reference) from error
    except (OSError, _http_error()) as error:
        raise refused(f"the hub could not be reached: {_first_line(error)}", reference) from error


def _http_error() -> type[Exception]:
    import httpx

    return httpx.HTTPError


def _download(repository: str, revision: str | None, *, quantized: bool) -> Path:
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download

    commit = HfApi().model_info(repository, revision=revision).sha
    config = read_json(Path(hf_hub_download(repository, CONFIG, revision=commit)))
    check_config(config, quantized=quantized)
    return Path(snapshot_download(repository, revision=commit, allow_patterns=_PATTERNS))


def _cached(reference: str, repository: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    options: dict[str, Any] = {"local_files_only": True, "allow_patterns": _PATTERNS}
    try:
        return Path(snapshot_download(repository, revision=revision, **options))
    except (LocalEntryNotFoundError, OSError) as error:
        message = (
            f"{reference} is no folder here, and as a hub model it is not in the local cache, while hub "
            f"access is off. Set {HUB_SWITCH}=1 to download it."
        )
        raise refused(message, reference) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
