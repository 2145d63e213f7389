"""The parts of `benchmarks/load.py`, one for each limit."""
