"""TRSP's core: choose decoder layers, move what they know, remove them, prove the result.

Importing this package imports neither torch nor transformers; the modules that need them say so.
"""

__version__ = "0.1.0"
