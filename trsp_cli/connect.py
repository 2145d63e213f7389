"""How client commands find the service: by the address given, or by the run file of an embedded one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trsp_cli import runfile
from trsp_cli.client import Client, Unreachable

DEMO_DIR = Path(".trsp")

Url = Annotated[str | None, typer.Option(envvar="TRSP_URL", help="Address of the service.")]
Key = Annotated[str | None, typer.Option(envvar="TRSP_KEY", help="Key of the service.")]


def connect(url: str | None, key: str | None) -> Client:
    """Return a client of the service at `url`, or of an embedded one that runs on this machine.

    Looked at are the folder of TRSP_DATA_DIR or its default, then `.trsp` here, where the demo runs.

    Raises:
        Unreachable: If no address is given and no embedded service runs.
    """
    if url:
        return Client(url, key)
    folders = (runfile.default_data_dir(), DEMO_DIR.resolve())
    for folder in folders:
        record = runfile.read(folder)
        if record is not None and runfile.is_held(folder):
            return Client(record.url, key or record.key)
    looked = " and ".join(str(folder) for folder in folders)
    raise Unreachable(
        f"no service runs on this machine (looked in {looked}); `trsp up` starts one, --url names one"
    )
