"""`trsp export`: a model as one GGUF file, here, without a service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from trsp_cli import spec_options as words
from trsp_cli.local import Model
from trsp_cli.output import Output
from trsp_core.config import Export
from trsp_core.errors import ModelRefused
from trsp_core.files import check_new_file
from trsp_core.options import read


def export(
    context: typer.Context,
    model: Model,
    out: Annotated[Path, typer.Option(help="The new file, FILE.gguf.")],
    kind: Annotated[str, typer.Option("--type", help="Element type: f16, f32 or q8_0.")] = "f16",
) -> None:
    """Write a model as GGUF for llama.cpp, tensor by tensor, and prove the file by loading it again."""
    options = read(Export, {"gguf_type": kind}, "/export")
    target = words.absolute(out)
    check_new_file(target)
    from trsp_core.export.base import Origin
    from trsp_core.export.gguf import GgufExport, prove_gguf, write_gguf
    from trsp_core.export.gguf_models import check_source
    from trsp_core.sources import SourcePolicy, inspect, materialize, resolve

    output: Output = context.obj
    policy = SourcePolicy.from_environment()
    source = resolve(model, policy)
    with _told_of_the_model():
        check_source(source, inspect(source))
        folder = materialize(source, policy)
        GgufExport().check(folder)
    write_gguf(folder, target, options.gguf_type, Origin(model))
    note = prove_gguf(folder, target, options.gguf_type)
    data = {"model": str(target), "type": options.gguf_type, "note": note}
    output.result(data, lambda console: console.print(f"{note}\nmodel  {target}", soft_wrap=True))


@contextmanager
def _told_of_the_model() -> Iterator[None]:
    """Name MODEL in a refusal, where a job names the field of its spec that asks for the format."""
    try:
        yield
    except ModelRefused as error:
        raise ModelRefused(*(replace(problem, pointer="/model") for problem in error.problems)) from error
