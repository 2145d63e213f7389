"""Telling want of memory from other failures: libraries say it in many words, few of them in a type of its own."""

from __future__ import annotations

import errno

_WORDS = (
    "out of memory",
    "not enough memory",
    "allocate memory",
    "memory allocation",
    "memory exhausted",
    "bad_alloc",
    "memoryerror",
    "unable to allocate",
    "could not create a primitive",
    "failed to map segment",
    "can't start new thread",
    "thread creation failed",
    "pthread_create failed",
    "threadpoolbuilderror",
)
"""torch, NumPy, oneDNN, Rust, C++, Python, the dynamic loader, and libraries that find no room for a thread's stack."""


def speaks_of_memory(text: str) -> bool:
    """Tell whether a library's words say that it got no memory."""
    plain = text.lower()
    return any(words in plain for words in _WORDS)


def wants_memory(error: BaseException) -> bool:
    """Tell whether an exception means that there was too little memory."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, (RuntimeError, ImportError)) and speaks_of_memory(str(error))
