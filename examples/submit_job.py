"""Run a job on a service and fetch its report: `python examples/submit_job.py URL MODEL CALIBRATION_SET OUT [KEY]`."""

from __future__ import annotations

import sys
from pathlib import Path

from trsp_cli.client import Client, ServiceError


def main(url: str, model: str, calibration: str, out: str, key: str | None = None) -> None:
    """Submit, follow to the end, and download what the job wrote."""
    job = {"model": model, "sparsity": 0.25, "calibration": calibration, "labels": {"example": "yes"}}
    with Client(url, key) as client:
        job_id = client.submit(job)["id"]
        for event in client.events(job_id):
            print(event.sequence, event.kind, event.data.get("message", ""), file=sys.stderr)
        ended = client.get(job_id)
        if ended["status"] != "succeeded":
            sys.exit(f"{job_id} {ended['status']}: {ended['reason']}")
        for path in client.download_all(job_id, Path(out)):
            print(path)
        for name, figures in client.report(job_id)["perplexity"].items():
            print(f"perplexity on {name}: {figures['dense']} -> {figures['pruned']}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ServiceError as error:
        sys.exit(str(error))
