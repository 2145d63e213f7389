"""Sets that were given to a service. The job is told what it may use; nothing is looked for on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, cast

from trsp_core.calibration.base import Split, refused
from trsp_core.calibration.files import TextFile
from trsp_core.registry import CALIBRATION_SETS, load
from trsp_core.sets import SetReference
from trsp_core.sources import SourcePolicy, UploadedText


class Upload:
    """An uploaded text, read as a file of its kind. It has one text for both splits."""

    held_out: ClassVar[bool] = False

    def __init__(self, reference: SetReference, policy: SourcePolicy) -> None:
        self._reference = reference
        self._known = policy.uploads.get(reference.argument or "")
        self._policy = policy

    @property
    def separator(self) -> str:
        """What joins its documents: the custom of its kind."""
        return self._reader(self._text()).separator

    def documents(self, split: Split) -> Iterator[str]:
        """Yield the documents of the text; the same for both splits.

        Raises:
            CalibrationRefused: If the service does not have it, or it is not what its kind says.
        """
        return self._reader(self._text()).documents(split)

    def check(self, least_bytes: int) -> None:
        """Refuse an upload that the service does not have, or that is smaller than `least_bytes`."""
        text = self._text()
        self._reader(text).check_size(text.size, least_bytes)

    def _text(self) -> UploadedText:
        if self._known is None:
            message = (
                f"{self._reference} is no text that this service has; GET /v1/calibration-sets lists them."
            )
            raise refused(message, str(self._reference))
        return self._known

    def _reader(self, text: UploadedText) -> TextFile:
        path = text.path or Path(self._reference.argument or "")
        policy = replace(self._policy, roots=(path.parent,))
        reference = SetReference(text.kind, str(path), self._reference.field)
        reader = cast(type[TextFile], load(CALIBRATION_SETS[text.kind].target))
        return reader(reference, policy, name=str(self._reference))
