"""What a stage author writes in annotations beyond plain types: ``Rows``, ``Shape``, ``State``,
``Header``, ``RequestId`` and ``MediaType``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final, NoReturn, SupportsIndex, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

if TYPE_CHECKING:
    Rows = Sequence  # to a type checker it is what arrives and what may be returned: any sequence
else:

    class Rows(Sequence[T_co]):
        """All rows of a batch at once, one ``T`` a row.

        A stage with a ``Rows`` parameter is called once with all rows of a batch, gathered as
        ``batching`` says, and returns as many rows as it got, in their order: either ``Rows[T]`` or
        a TypedDict whose fields are each ``Rows[...]`` (columns). What arrives is a list.
        """


class Shape:
    """Dimensions of one row's tensor, without the rows axis; -1 fits any size.

    ``Annotated[NDArray[np.float32], Shape(384)]`` is FP32 ``[384]`` a row, ``[-1, 384]`` on the
    wire.
    """

    __slots__ = ("dims",)

    def __init__(self, *dims: int) -> None:
        if not all(isinstance(dim, SupportsIndex) and dim.__index__() >= -1 for dim in dims):
            written = ", ".join(map(repr, dims))
            raise ValueError(
                f"Shape({written}): each dimension is a size, or -1 for any, as in Shape(-1, 3)."
            )
        self.dims = tuple(dim.__index__() for dim in dims)

    def __class_getitem__(cls, dims: object) -> NoReturn:
        raise TypeError(f"Shape takes its dimensions in parentheses: Shape({dims}).")

    def __repr__(self) -> str:
        return f"Shape({', '.join(map(str, self.dims))})"


class KeptAnnotation:
    """Marks what a function keeps between the calls of a sequence; written as ``State[T]``."""

    def __repr__(self) -> str:
        return "KEPT"


KEPT: Final = KeptAnnotation()

State = Annotated[T | None, KEPT]
"""What the call before in the same sequence left under the parameter's name; None in the first
call.

The stage, or a later one, gives the new state as a value of that name. It is kept when the row has
been answered, and is no part of the answer. What was kept is not the stage's to change: it gives
another object (arrays are read-only). In a stage that takes all rows, ``Rows[State[T]]``. The
function declares ``sequences``.
"""


class Header:
    """A header of the request, by its name: ``Annotated[str, Header("x-tenant")]``, or ``str |
    None`` of one that may be missing.

    The parameter's own name is free. A request without a header that has neither a default nor ``|
    None`` is refused with 400. In a stage that takes all rows, ``Rows[Annotated[str,
    Header("x-tenant")]]``.

    Args:
        name: in any case.
        example: what first runs are given, which no caller sends.
    """

    __slots__ = ("example", "name")

    def __init__(self, name: str, *, example: str = "") -> None:
        self.name = name.lower()
        self.example = example

    def __repr__(self) -> str:
        return f"Header({self.name!r})"


REQUEST_ID: Final = Header("x-request-id", example="warm-up")

RequestId = Annotated[str, REQUEST_ID]
"""The id that the request has in logs and answers: the caller's ``x-request-id``, or one made at
the edge. In a stage that takes all rows, ``Rows[RequestId]``."""


_TOKEN: Final = r"[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,127}"
_MEDIA_TYPE: Final = re.compile(
    rf"({_TOKEN}/{_TOKEN})(\s*;\s*{_TOKEN}=({_TOKEN}|\"[ -!#-\[\]-~]*\")){{0,8}}", re.ASCII
)
_RANGE: Final = re.compile(rf"\*/\*|{_TOKEN}/\*")


class MediaType:
    """Says that what the last stage returns is a file, and of which type: ``Annotated[bytes,
    MediaType("image/png")]``, of ``bytes``, a ``Path``, or a ``File``.

    A client that accepts the type gets it as it is; one that asks for JSON gets base64 text. In a
    stage that takes all rows, ``Rows[Annotated[bytes, MediaType("image/png")]]``.

    Args:
        name: a media type, such as ``text/csv; charset=utf-8``; or a range, such as ``image/*``, of
            which a ``File`` says which one it is.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        if not (isinstance(name, str) and (is_media_type(name) or _RANGE.fullmatch(name))):
            raise ValueError(
                f"MediaType({name!r}): write a type, such as MediaType('image/png'), or a range of"
                " them, such as MediaType('image/*')."
            )
        self.name = name

    def __class_getitem__(cls, name: object) -> NoReturn:
        raise TypeError(f"MediaType takes its type in parentheses: MediaType({name!r}).")

    def __repr__(self) -> str:
        return f"MediaType({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MediaType) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)


def is_media_type(name: str) -> bool:
    """Whether it is one type, with or without parameters, as a header has it."""
    return bool(_MEDIA_TYPE.fullmatch(name)) and "*" not in name.partition(";")[0]


def is_media_range(name: str) -> bool:
    """Whether it stands for several types: ``image/*``."""
    return bool(_RANGE.fullmatch(name))


def covers(media: str, name: str) -> bool:
    """Whether a type, or a range, has this type in it (RFC 9110, section 12.5.1); parameters such
    as ``charset`` decide nothing.
    """
    wanted, given = (one.partition(";")[0].strip().lower() for one in (media, name))
    return wanted in ("*/*", given) or (wanted.endswith("/*") and given.startswith(wanted[:-1]))
