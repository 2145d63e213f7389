"""What a model reference means, and what is refused before anything loads it. Torch-free."""

from trsp_core.sources.contents import opened
from trsp_core.sources.facts import inspect
from trsp_core.sources.lookups import Looked, Lookups, look
from trsp_core.sources.materialize import materialize
from trsp_core.sources.policy import Source, SourcePolicy, UploadedText
from trsp_core.sources.resolve import gguf_file, resolve

__all__ = [
    "Looked",
    "Lookups",
    "Source",
    "SourcePolicy",
    "UploadedText",
    "gguf_file",
    "inspect",
    "look",
    "materialize",
    "opened",
    "resolve",
]
