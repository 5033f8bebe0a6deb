"""JSON that is nearly right: plain data in which single values are replaced by odd ones, and the
text of it, in which also what no writer of JSON writes has its place: a key twice, ``NaN``, half a
character.
"""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, Final


class Raw(bytes):
    """A part of a JSON text as it is written, right or not."""


class Pairs(list[tuple[str, Any]]):
    """An object whose keys may stand there twice."""


def dump(value: Any) -> bytes:
    """The text of plain data with ``Raw`` and ``Pairs`` in it."""
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, dict | Pairs):
        pairs = value.items() if isinstance(value, dict) else value
        return b"{" + b",".join(dump(key) + b":" + dump(one) for key, one in pairs) + b"}"
    if isinstance(value, list | tuple):
        return b"[" + b",".join(map(dump, value)) + b"]"
    return json.dumps(value).encode()


Made = Callable[[Random], Any]


def _nested(opening: bytes, middle: bytes, closing: bytes) -> Made:
    def made(random: Random) -> Raw:
        depth = random.choice((2, 31, 63, 64, 65, 200, 1100, 20_000))
        return Raw(opening * depth + middle + closing * depth)

    return made


def _text(random: Random) -> str:
    alphabet = random.choice(("a", "ab \n", "é日\u0301", "\0\x01\x7f", "😀", '"\\/', "%s{}$`;<>&'"))
    return "".join(random.choices(alphabet, k=random.choice((0, 1, 7, 128, 129, 4000))))


_FIXED: Final[Sequence[Any]] = (
    *(None, True, False, 0, 1, -1, 255, 256, -129, 0.5, -0.0, 1e308, 5e-324, 1e-400),
    *(2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30),
    *("", " ", "0", "-1", "1e5", "NaN", "true", "null", "[]", "{}", "\0", "a\r\nb: c"),
    *(
        "../../etc/passwd",
        "/dev/zero",
        "file:///etc/passwd",
        "http://127.0.0.1:1/",
        "__class__",
    ),
    *("2024-02-30", "9999-12-31T23:59:60Z", "P1000000D", "🏳️‍🌈", "\u202eabc", "ａ", "İ"),
    *([], {}, [[]], [None], [{}], {"": None}, [[], [[]]], [1, "1", None, True, 1.5]),
    *(Raw(b"NaN"), Raw(b"-Infinity"), Raw(b"1e400"), Raw(b"0x10"), Raw(b"01"), Raw(b"-0")),
    *(Raw(b"1."), Raw(b".5"), Raw(b"+1"), Raw(b"1e"), Raw(b"-"), Raw(b"tru"), Raw(b"'a'")),
    *(Raw(b"1" * 400), Raw(b"1" * 5000), Raw(b"0." + b"1" * 5000), Raw(b"1e99999999")),
    *(Raw(b'"\\ud800"'), Raw(b'"\\udfff\\ud800"'), Raw(b'"\\u12"'), Raw(b'"\\x41"')),
    *(Raw(b'"\xff\xfe"'), Raw(b'"\xc0\x80"'), Raw(b'"\xed\xa0\x80"'), Raw(b'"a\nb"')),
    *(
        Raw(b""),
        Raw(b","),
        Raw(b"}"),
        Raw(b"]"),
        Raw(b"\xef\xbb\xbf1"),
        Raw(b"1 2"),
        Raw(b"//"),
    ),
)
"""Values that are the same each time."""


def _fixed(random: Random) -> Any:
    return copy.deepcopy(random.choice(_FIXED))  # what it is put into is changed further


ODD: Final[Sequence[Made]] = (
    *[_fixed] * 30,
    _text,
    _text,
    _nested(b"[", b"", b"]"),
    _nested(b'{"a":', b"1", b"}"),
    _nested(b"[", b"", b""),
    lambda random: [0.5] * random.choice((1, 2, 100, 5000)),
    lambda random: [[1, 2]] * random.choice((1, 2, 100)) + [[1]],
    lambda random: {f"k{index}": index for index in range(random.choice((1, 65, 2000)))},
    lambda random: Pairs([("text", "a"), ("text", "b")] * random.choice((1, 500))),
    lambda random: random.randint(-(10**6), 10**6),
    lambda random: random.gauss(0.0, 10.0 ** random.randint(-300, 300)),
    lambda random: base64.b64encode(random.randbytes(random.choice((0, 1, 64, 4096)))).decode(),
    lambda random: base64.b64encode(random.randbytes(9)).decode()[: random.randint(0, 12)],
)
"""Values that were not meant, each made anew."""


def odd(random: Random) -> Any:
    """One of them."""
    return random.choice(ODD)(random)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each container within plain data with each of its keys, and with each index."""
    items: Any = ()
    if isinstance(value, dict):
        items = list(value.items())
    elif type(value) is list:
        items = list(enumerate(value[:50]))
    for key, one in items:
        yield value, key
        yield from _places(one)


def mutated(random: Random, value: Any) -> Any:
    """Plain data of which one to three places are otherwise."""
    holder = [copy.deepcopy(value)]
    for _ in range(random.choice((1, 1, 2, 3))):
        if places := list(_places(holder)):
            _change(random, *random.choice(places))
    return holder[0] if holder else Raw(b"")


def _change(random: Random, container: Any, key: Any) -> None:
    """What is at a place of a container is replaced, taken away, doubled, wrapped or renamed."""
    value = container[key]
    match random.randrange(9):
        case 0:
            del container[key]
        case 1:
            container[key] = [value]
        case 2:
            container[key] = {"a": value}
        case 3 if isinstance(container, dict):
            container[_text(random) or "b"] = container.pop(key)
        case 4 if isinstance(value, dict) and value:
            container[key] = Pairs([*value.items(), random.choice(list(value.items()))])
        case 5 if type(value) is list:
            container[key] = copy.deepcopy(value) * random.choice((0, 2, 100))
        case 6 if isinstance(value, str):
            cut = random.randint(0, len(value))
            container[key] = value[:cut] + _text(random) + value[cut:]
        case 7 if isinstance(container, dict):
            container[_text(random)] = odd(random)
        case _:
            container[key] = odd(random)
