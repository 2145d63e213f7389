from __future__ import annotations

import errno

import pytest

from trsp_core.errors import OutOfMemory
from trsp_core.pipeline import named_failures
from trsp_core.scarcity import wants_memory

WANTS = [
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried …"
    ),
    RuntimeError("could not create a primitive"),
    RuntimeError("can't start new thread"),
    ImportError("libtorch_cpu.so: failed to map segment from shared object"),
]


@pytest.mark.parametrize("error", WANTS, ids=str)
def test_want_of_memory_is_known_in_its_many_words(error: Exception) -> None:
    assert wants_memory(error)
    if not isinstance(error, ImportError):
        with pytest.raises(OutOfMemory, match="shorter sequences"), named_failures():
            raise error


@pytest.mark.parametrize(
    "error",
    [ValueError("out of memory"), OSError(errno.EIO, "memory"), RuntimeError("mat1 and mat2 do not fit")],
    ids=str,
)
def test_other_failures_are_not_taken_for_it(error: Exception) -> None:
    assert not wants_memory(error)
    with pytest.raises(type(error)), named_failures():
        raise error
