"""How figures are written for people: a few digits, a unit, thousands apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

NO_BREAK = "\u00a0"


def significant(value: float, digits: int = 4) -> str:
    """Return `value` with `digits` significant digits; powers of ten only for the very small and large."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    size = math.floor(math.log10(abs(value)))
    if not -5 < size < 9:
        number, power = f"{value:.{digits - 1}e}".split("e")
        return f"{number.rstrip('0').rstrip('.')}e{int(power)}"
    return f"{value:,.{max(0, digits - 1 - size)}f}"


def whole(value: float) -> str:
    """Return a count."""
    return f"{value:,.0f}"


def ratio(value: float) -> str:
    """Return a multiple: `1.31×`."""
    return (f"{value:,.2f}" if value < 100 else significant(value, 3)) + "×"


def percent(value: float) -> str:
    """Return a share of one in percent."""
    return f"{100 * value:.1f}{NO_BREAK}%"


def parameters(value: float) -> str:
    """Return a number of weights: `134.5 M`."""
    return _scaled(value, (("B", 1e9), ("M", 1e6), ("k", 1e3), ("", 1)))


def size(value: float) -> str:
    """Return bytes in decimal units, as disks and download pages count."""
    return _scaled(value, (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1)))


def milliseconds(value: float) -> str:
    """Return milliseconds."""
    return f"{significant(value)}{NO_BREAK}ms"


def rate(value: float) -> str:
    """Return tokens a second."""
    return f"{significant(value)}{NO_BREAK}tokens/s"


def seconds(value: float) -> str:
    """Return a duration: `0.33 s`, `2 min 23 s`, `3 h 05 min`."""
    if value < 59.95:
        return f"{value:.2f}{NO_BREAK}s" if value < 10 else f"{value:.1f}{NO_BREAK}s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}{NO_BREAK}min {rest:02d}{NO_BREAK}s"
    return f"{minutes // 60}{NO_BREAK}h {minutes % 60:02d}{NO_BREAK}min"


def ordinal(value: int) -> str:
    """Return `1st`, `2nd`, …"""
    last = "th" if value % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
    return f"{value}{last}"


def _scaled(value: float, units: tuple[tuple[str, float], ...]) -> str:
    name, factor = next((unit for unit in units if abs(value) >= unit[1]), units[-1])
    digits = significant(value / factor) if factor > 1 else whole(value)
    return f"{digits}{NO_BREAK}{name}" if name else digits


FORMATS: Mapping[str, Callable[[float], str]] = {
    "number": significant,
    "short": lambda value: significant(value, 3),
    "whole": whole,
    "plain": lambda value: f"{value:g}",
    "ratio": ratio,
    "percent": percent,
    "parameters": parameters,
    "size": size,
    "ms": milliseconds,
    "tokens/s": rate,
    "seconds": seconds,
}
