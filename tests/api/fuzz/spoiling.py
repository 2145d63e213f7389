"""Requests that are right but for one thing: a value that nobody sends by mistake, at a place drawn by chance."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

TEXTS = (
    "", " ", "\0", "a\0b", "\ud800", "\udfff\ud800", "\u202e", "\ufeff", "\r\nX-Injected: 1", "%00", "%", "%zz",
    "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "file:///etc/passwd", "~root", "a/../../b",
    "\\\\host\\x",
    "' OR 1=1 --", "{{7*7}}", "${jndi:ldap://127.0.0.1/a}", "<script>alert(1)</script>", "null", "NaN", "-0",
    "hf:../../x", "hf:a/b@../c", "s3://127.0.0.1/x", "s3:///", "gguf:/dev/zero", "text:/proc/self/environ",
    "upload:../x", "demo:../x", "http://169.254.169.254/", "a" * 300, "é" * 5000, "🙂" * 300, "1e400", "١٢٣",
)  # fmt: skip
WORDS = tuple(text for text in TEXTS if not any("\ud800" <= sign <= "\udfff" for sign in text))
"""Those that can be sent outside of JSON too."""
NUMBERS = (
    0, -1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**400, 0.0, -0.0, 5e-324, 1e308, 0.5,
)  # fmt: skip
SHAPES: tuple[Any, ...] = (
    None,
    True,
    False,
    [],
    {},
    [None],
    [[]],
    {"": None},
    {"a\0": 1},
    {"\ud800": 1},
    {"$ref": "#"},
)
HOSTILE: tuple[Any, ...] = (*TEXTS, *NUMBERS, *SHAPES)
HEADER_VALUES = (
    "", " ", '"', '""', "*", "W/*", '"1"', '"0-00000000"', 'W/"1-00000000"', '"99999999999999999999-00000000"', "\xff",
    "a" * 5000, '"' + "9" * 18 + '"', "-1", "0", "99999999999999999999", "1:0", "1:99999999999999999", "bytes=0-",
    "bytes=-0", "bytes=5-2", "bytes=0-0,2-3", "bytes=99999999999999999999-", "text/html", "application/json;charset=x",
    "Bearer", "null", "http://evil.example", "chunked", "identity, ,", "%00", "é",
)  # fmt: skip
HEADERS = (
    "If-Match", "If-None-Match", "If-Range", "Range", "Last-Event-ID", "Idempotency-Key", "Accept", "Accept-Encoding",
    "X-Request-ID", "X-Forwarded-For", "X-Forwarded-Host", "Origin", "Sec-Fetch-Site", "Cookie", "Content-Type",
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value inside a JSON value, the whole one first."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield from places(item, (*path, name))


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return a copy of a JSON value with another value at a path."""
    if not path:
        return copy.deepcopy(new)
    changed = copy.copy(value)
    changed[path[0]] = put(value[path[0]], path[1:], new)
    return changed


@st.composite
def spoiled(draw: st.DrawFn, body: Any) -> Any:
    """Draw a body with a hostile value in the place of a field, beside the fields, or as a field's name."""
    path, bad = draw(st.sampled_from(list(places(body)))), draw(st.sampled_from(HOSTILE))
    inside: Any = body
    for name in path:
        inside = inside[name]
    if isinstance(inside, dict) and draw(st.booleans()):
        name = draw(st.sampled_from((*TEXTS, *inside)))
        return put(body, path, {**inside, name: bad})
    return put(body, path, bad)


def odd_headers() -> st.SearchStrategy[dict[str, str]]:
    """Draw up to two headers with values that do not belong there."""
    return st.dictionaries(st.sampled_from(HEADERS), st.sampled_from(HEADER_VALUES), max_size=2)
