import platform
import subprocess
import sys

import pytest

PROGRAM = """
import torch
from pathlib import Path
from trsp_core.allocator import returning_freed_memory

def resident():
    return int(next(l for l in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in l).split()[1])

torch.ones(64)
with returning_freed_memory():
    pinned, before = [], resident()
    for size in (8, 16, 24) * 10:
        block = torch.ones(size * 2**18)
        pinned.append(torch.ones(64))
        del block
    print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the switch")
def test_freed_tensors_leave_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 4 * 1024
