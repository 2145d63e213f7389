"""What a model reference means, and what is refused before anything loads it. Torch-free."""

from trsp_core.sources.facts import inspect
from trsp_core.sources.materialize import materialize
from trsp_core.sources.policy import Source, SourcePolicy
from trsp_core.sources.resolve import gguf_file, resolve

__all__ = ["Source", "SourcePolicy", "gguf_file", "inspect", "materialize", "resolve"]
