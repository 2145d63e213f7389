"""The process of one row: `python -m trsp_core.compare.row_child TASK`.

It reads the task from a file, writes progress as JSON lines to stdout and its outcome, `{"result": …}` or
`{"problem": …}`, to the task's answer file. It ends at once when its standard input closes: whoever started
it is then gone. torch is imported only when that is watched, since the import alone can take a while.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trsp_core.compare.task import RowTask
from trsp_core.errors import InputRefused, TrspError
from trsp_core.files import write_json_atomically
from trsp_core.progress import Progress

_STANDARD_INPUT = 0
_ORPHANED = 70


def main(file: Path) -> None:
    """Do the task and write the outcome down."""
    threading.Thread(target=_end_when_alone, daemon=True).start()
    import torch

    task = RowTask.from_dict(json.loads(file.read_text()))
    torch.set_num_threads(task.threads)
    write_json_atomically(task.answer, _outcome(task))


def _outcome(task: RowTask) -> dict[str, Any]:
    """Return the row's figures, or why there are none; errors nobody foresaw end the process."""
    from trsp_core.compare.row import run_row
    from trsp_core.pipeline import named_failures

    try:
        with named_failures():
            return {"result": asdict(run_row(task, _tell))}
    except TrspError as error:
        refused = isinstance(error, InputRefused)
        return {"problem": {"refused": refused, "code": error.code, "message": str(error)}}


def _tell(event: Progress) -> None:
    sys.stdout.write(json.dumps(event.to_dict()) + "\n")
    sys.stdout.flush()


def _end_when_alone() -> None:
    """Wait for the end of standard input; past Python's buffers, whose lock would outlive the main thread."""
    while os.read(_STANDARD_INPUT, 1):
        pass
    os._exit(_ORPHANED)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
