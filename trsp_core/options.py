"""Options as data: a frozen dataclass whose fields carry their unit, range, default and reason.

One declaration serves the reader (`read`), the refusals (`Problem`), the JSON Schema of the API and
the generated documentation.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from trsp_core.errors import InvalidSpec, Problem, closest

T = TypeVar("T")
_KEY = "rule"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a field means and which values it takes.

    Attributes:
        reader: For a nested field, builds its value from the JSON value and its pointer.
        shape: The JSON Schema of such a field.
    """

    about: str
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    reader: Callable[[Any, str], Any] | None = None
    shape: Mapping[str, Any] | None = None

    def allowed(self) -> str:
        """Say the range or the choices in words; empty where anything goes."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        low = _bound("at least", self.at_least) or _bound("above", self.above)
        high = _bound("at most", self.at_most) or _bound("below", self.below)
        return " and ".join(part for part in (low, high) if part)

    def holds(self, value: Any) -> bool:
        """Tell whether `value`, already of the right type, is allowed."""
        if self.choices:
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return True
        return (
            math.isfinite(value)
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )


def _bound(word: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{word} {value:,}" if isinstance(value, int) else f"{word} {value:g}"


def option(default: Any = dataclasses.MISSING, *, about: str, **rule: Any) -> Any:
    """Declare a field with its rule; without a default the field is required."""
    return dataclasses.field(default=default, metadata={_KEY: Rule(about=about, **rule)})


def rules(cls: type[Any]) -> dict[str, Rule]:
    """Return the rule of each declared field, in order."""
    return {item.name: item.metadata[_KEY] for item in dataclasses.fields(cls) if _KEY in item.metadata}


def read(cls: type[T], data: Any, pointer: str) -> T:
    """Build `cls` from a JSON object.

    Raises:
        InvalidSpec: With one problem for every field that is unknown, missing, of the wrong type or out
            of range, all at once.
    """
    if not isinstance(data, Mapping):
        raise InvalidSpec(Problem(pointer, f"must be an object, not {_type_name(data)}.", _plain(data)))
    known = {item.name: item for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
    problems = [_unknown(pointer, name, known) for name in data if name not in known]
    hints = _hints(cls)
    values: dict[str, Any] = {}
    for name, item in known.items():
        if name not in data:
            if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
                problems.append(Problem(f"{pointer}/{name}", "is required."))
            continue
        try:
            values[name] = convert(data[name], hints[name], item.metadata[_KEY], f"{pointer}/{name}")
        except InvalidSpec as error:
            problems.extend(error.problems)
    if problems:
        raise InvalidSpec(*problems)
    return cls(**values)


def _hints(cls: type[Any]) -> Mapping[str, Any]:
    """Return the types of a class's fields, worked out once: that takes as long as reading a whole spec."""
    if cls not in _HINTS:
        _HINTS[cls] = get_type_hints(cls)
    return _HINTS[cls]


_HINTS: dict[type[Any], Mapping[str, Any]] = {}


def convert(value: Any, hint: Any, rule: Rule, pointer: str) -> Any:
    """Return `value` as the type of `hint`, or raise `InvalidSpec` saying what would be right."""
    if rule.reader is not None:
        return rule.reader(value, pointer)
    if get_origin(hint) in (Union, types.UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        hint = next(item for item in get_args(hint) if item is not type(None))
    if get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)):
            raise _wrong_type(value, "a list", pointer)
        inner = get_args(hint)[0]
        return tuple(convert(item, inner, rule, f"{pointer}/{index}") for index, item in enumerate(value))
    return _scalar(value, hint, rule, pointer)


def _scalar(value: Any, hint: Any, rule: Rule, pointer: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise _wrong_type(value, _NAMES.get(hint, hint.__name__), pointer)
    if not rule.holds(value):
        guess = closest(value, rule.choices) if rule.choices and isinstance(value, str) else None
        message = f"is {_plain(value)!r}; it must be {rule.allowed() or 'finite'}."
        raise InvalidSpec(Problem(pointer, message, _plain(value), rule.choices or rule.allowed(), guess))
    return value


_NAMES = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}


def _wrong_type(value: Any, wanted: str, pointer: str) -> InvalidSpec:
    message = f"is {_plain(value)!r} ({_type_name(value)}); it must be {wanted}."
    return InvalidSpec(Problem(pointer, message, _plain(value), wanted))


def _type_name(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", type(None): "null"}
    return names.get(type(value), "an object" if isinstance(value, Mapping) else "a list")


def _plain(value: Any) -> Any:
    """Return a value that JSON can carry and a person can read: non-finite numbers as words, cut to 200."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 200 else text[:200] + "…"


def _unknown(pointer: str, name: str, known: Mapping[str, Any]) -> Problem:
    fields = tuple(known)
    message = f"is not a known field; known are {', '.join(fields)}."
    return Problem(f"{pointer}/{_escape(str(name))}", message, None, fields, closest(str(name), fields))


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def schema(cls: type[Any]) -> dict[str, Any]:
    """Return the JSON Schema of an options dataclass, descriptions and ranges included."""
    hints = _hints(cls)
    properties, required = {}, []
    for item in dataclasses.fields(cls):
        rule: Rule = item.metadata[_KEY]
        entry = {**(rule.shape or _type_schema(hints[item.name], rule)), "description": describe(rule)}
        if item.default is not dataclasses.MISSING:
            entry["default"] = json_default(item.default)
        else:
            required.append(item.name)
        properties[item.name] = entry
    result: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**result, "required": required} if required else result


def json_default(value: Any) -> Any:
    """Return a field's default as JSON shows it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: json_default(getattr(value, item.name)) for item in dataclasses.fields(value)}
    return list(value) if isinstance(value, tuple) else value


def describe(rule: Rule) -> str:
    """Return the meaning of a field with its unit."""
    return f"{rule.about} Unit: {rule.unit}." if rule.unit else rule.about


def _type_schema(hint: Any, rule: Rule) -> dict[str, Any]:
    if get_origin(hint) in (Union, types.UnionType):
        inner = next(item for item in get_args(hint) if item is not type(None))
        return {"anyOf": [_type_schema(inner, rule), {"type": "null"}]}
    if get_origin(hint) is tuple:
        return {"type": "array", "items": _type_schema(get_args(hint)[0], rule)}
    names = {int: "integer", float: "number", str: "string", bool: "boolean"}
    bounds = {
        "minimum": rule.at_least,
        "maximum": rule.at_most,
        "exclusiveMinimum": rule.above,
        "exclusiveMaximum": rule.below,
        "enum": list(rule.choices) or None,
    }
    return {"type": names[hint], **{key: value for key, value in bounds.items() if value is not None}}
