"""All families that are supported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from trsp_core.architectures.composites import COMPOSITES
from trsp_core.architectures.hybrids import HYBRIDS
from trsp_core.architectures.mixtures import MIXTURES
from trsp_core.architectures.plain import PLAIN
from trsp_core.architectures.record import Architecture

ARCHITECTURES: Mapping[str, Architecture] = {
    name: replace(record, model_type=name)
    for records in (PLAIN, MIXTURES, HYBRIDS, COMPOSITES)
    for name, record in records.items()
}
