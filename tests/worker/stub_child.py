"""Stands for `worker.child` in tests: keeps the same contract, needs no torch, misbehaves on request.

The last part of the spec's model says how: `hf:stub/BEHAVIOR`. The number of steps is
`calibration.sequences`, each takes 50 ms. After each step a checkpoint is written, from which a later attempt goes on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STOPPED: list[int] = []


class Stub:
    def __init__(self, request: dict[str, Any], pipe: int) -> None:
        self.spec = request["spec"]
        self.uploads = request["policy"]["uploads"]
        self.out = Path(request["workdir"])
        self.pipe = pipe
        self.steps = self.spec["calibration"]["sequences"]
        self.checkpoint = self.out / "checkpoint" / "step"
        self.first = int(self.checkpoint.read_text()) if self.checkpoint.exists() else 0

    def say(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.pipe, view) :]

    def send(self, **message: Any) -> None:
        self.say(json.dumps(message).encode() + b"\n")

    def progress(self, stage: str, step: int, overall: float) -> None:
        data = {
            "stage": stage,
            "step": step,
            "total": self.steps,
            "overall": overall,
            "message": f"step {step}",
        }
        self.send(type="progress", data=data)

    def work(self) -> None:
        sys.stdout.write(f"begins at step {self.first}\n")
        sys.stdout.flush()
        for step in range(self.first + 1, self.steps + 1):
            if STOPPED:
                sys.exit(130)
            time.sleep(0.05)
            self.checkpoint.parent.mkdir(exist_ok=True)
            part = self.checkpoint.with_suffix(".part")
            part.write_text(str(step))
            part.replace(self.checkpoint)
            self.progress("stage1" if step <= self.steps / 2 else "stage2", step, 0.9 * step / self.steps)

    def result(self) -> None:
        (self.out / "model").mkdir(exist_ok=True)
        (self.out / "model" / "model.safetensors").write_bytes(bytes(range(256)) * 4096)
        (self.out / "plan.json").write_text("{}")
        report = {"plan": {"layers": 30, "removed_layers": [1]}, "resumed_from": self.first}
        (self.out / "report.json").write_text(json.dumps(report))
        self.progress("report", self.steps, 1.0)

    def ok(self) -> None:
        self.work()
        self.result()

    def slow_plan(self) -> None:
        """Leave a plan and a half-made model, and work on."""
        (self.out / "plan.json").write_text("{}")
        (self.out / "model").mkdir(exist_ok=True)
        (self.out / "model" / "model.safetensors").write_bytes(b"half")
        self.work()

    def no_report(self) -> None:
        self.work()

    def crash(self) -> None:
        self.work()
        sys.exit(3)

    def killed(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def crash_once(self) -> None:
        if self.first == 0:
            self.steps, all_steps = self.steps // 2, self.steps
            self.work()
            self.steps = all_steps
            os.abort()
        self.ok()

    def refused(self) -> None:
        problem = {"pointer": "/model", "message": "is unknown", "value": "x", "suggestion": "y"}
        self.send(type="error", code="model_refused", message="/model: is unknown", problems=[problem])
        sys.exit(2)

    def numerical(self) -> None:
        self.send(type="error", code="numerical_failure", message="the loss is NaN", problems=[])
        sys.exit(1)

    def memory(self) -> None:
        self.send(type="error", code="out_of_memory", message="CUDA out of memory", problems=[])
        sys.exit(1)

    def stubborn(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.progress("stage1", 1, 0.1)
        time.sleep(600)

    def family(self) -> None:
        """Start a process that ignores the polite signal and would outlive this one."""
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        grandchild = subprocess.Popen([sys.executable, "-c", code])
        (self.out / "grandchild").write_text(str(grandchild.pid))
        self.steps = max(self.steps, 1)
        self.work()
        self.result()
        os._exit(0)

    def garbage(self) -> None:
        self.say(b"not json\n\xff\xfe\0\n[1,2]\n" + b'{"type": "lunch"}\n{"type": "progress", "data": 3}\n')
        self.say(b"[" * 100_000 + b"\n")
        megabyte = b"x" * 1_000_000
        for _ in range(100):
            self.say(megabyte)
        self.say(b"\n")
        for _ in range(20):
            sys.stdout.buffer.write(megabyte)
        sys.stdout.flush()
        data = {"stage": "stage1", "step": 1, "total": 1, "overall": 0.5, "message": "a\0b\ud800"}
        for _ in range(20_000):
            self.send(type="progress", data=data)
        self.result()

    def look_around(self) -> None:
        seen = {
            "environment": dict(os.environ),
            "cwd": str(Path.cwd()),
            "sid": os.getsid(0),
            "pid": os.getpid(),
        }
        seen["oom"] = Path("/proc/self/oom_score_adj").read_text().strip()
        links = [path for path in Path("/proc/self/fd").iterdir() if path.exists()]
        seen["files"] = [str(path.readlink()) for path in links]
        (self.out / "seen.json").write_text(json.dumps(seen))
        self.result()

    def read_uploads(self) -> None:
        texts = {name: Path(item["path"]).read_text() for name, item in self.uploads.items()}
        (self.out / "seen.json").write_text(json.dumps({"uploads": self.uploads, "texts": texts}))
        self.work()
        self.result()

    def links(self) -> None:
        (self.out / "secret").symlink_to("/etc/passwd")
        (self.out / "loop").symlink_to(self.out)
        self.ok()


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_bytes())
    signal.signal(signal.SIGTERM, lambda *_: STOPPED.append(1))
    stub = Stub(request, int(sys.argv[2]))
    behavior: Callable[[], None] = getattr(stub, stub.spec["model"].rpartition("/")[2])
    behavior()


if __name__ == "__main__":
    main()
