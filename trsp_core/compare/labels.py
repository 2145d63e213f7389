"""Names beside the marks of a scatter, placed so that they hide neither marks nor each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

LETTER = 6.9
"""Width of a letter of the pictures' text, in units of the picture."""
_ASCENT, _DESCENT = 10.0, 4.0
_MARK = 6.0
_AROUND = (
    (1.0, 0.4, "start"),
    (-1.0, 0.4, "end"),
    (0.0, -1.0, "middle"),
    (0.0, 1.9, "middle"),
    (0.9, -0.7, "start"),
    (-0.9, -0.7, "end"),
    (0.9, 1.6, "start"),
    (-0.9, 1.6, "end"),
)
"""Directions that are tried in turn, the text's baseline in multiples of the distance."""
_DISTANCES = (9.0, 18.0, 30.0, 44.0)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def shared_with(self, other: Box) -> float:
        """Return the area that two boxes share."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)

    def within(self, other: Box) -> bool:
        """Tell whether this box lies in another."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )


@dataclass(frozen=True, slots=True)
class Label:
    """A name and where its baseline begins, ends or has its middle, as `anchor` says.

    Attributes:
        far: Whether it stands so far from its mark that a line must join them.
    """

    words: str
    x: float
    y: float
    anchor: str
    far: bool

    @property
    def box(self) -> Box:
        """What it covers."""
        width = LETTER * len(self.words)
        left = self.x - {"start": 0.0, "middle": 0.5, "end": 1.0}[self.anchor] * width
        return Box(left, self.y - _ASCENT, left + width, self.y + _DESCENT)


def along(points: Sequence[tuple[float, float]]) -> tuple[Box, ...]:
    """Return what the upright and level pieces of a line cover."""
    return tuple(
        Box(min(x, to_x) - 1, min(y, to_y) - 1, max(x, to_x) + 1, max(y, to_y) + 1)
        for (x, y), (to_x, to_y) in pairwise(points)
    )


def placed(
    marks: Sequence[tuple[str, float, float]], area: Box, clear: Sequence[Box] = ()
) -> tuple[Label, ...]:
    """Return a label for each `(name, x, y)`, in order: the nearest free place, else the one that hides least.

    Args:
        marks: Names and the middles of their marks.
        area: What no label leaves, if it can.
        clear: What else is to be seen.
    """
    taken = [*clear, *(Box(x - _MARK, y - _MARK, x + _MARK, y + _MARK) for _, x, y in marks)]
    found: list[Label] = []
    for name, x, y in marks:
        inside = [label for label in _candidates(name, x, y) if label.box.within(area)]
        label = min(inside or _candidates(name, x, y), key=lambda item: _hidden(item, taken))
        found.append(label)
        taken.append(label.box)
    return tuple(found)


def _candidates(name: str, x: float, y: float) -> Iterator[Label]:
    for distance in _DISTANCES:
        for across, down, anchor in _AROUND:
            yield Label(name, x + across * distance, y + down * distance, anchor, distance > _DISTANCES[0])


def _hidden(label: Label, taken: Sequence[Box]) -> float:
    return sum(label.box.shared_with(box) for box in taken)
