"""What a stage author writes in annotations beyond plain Python types: ``Rows[T]``, ``Shape(...)`` and ``State[T]``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

if TYPE_CHECKING:
    Rows = Sequence  # to a type checker it is what arrives and what may be returned: any sequence
else:

    class Rows(Sequence[T_co]):
        """All rows of a batch at once, one ``T`` a row.

        A stage with a ``Rows`` parameter is called once with every row at hand and returns as many rows as it got, in their order:
        either ``Rows[T]`` or a TypedDict whose fields are each ``Rows[...]`` (columns). What arrives is a list.
        """


class Shape:
    """Dimensions of one row's tensor, without the rows axis; -1 fits any size.

    ``Annotated[NDArray[np.float32], Shape(384)]`` is FP32 ``[384]`` a row, ``[-1, 384]`` on the wire.
    """

    __slots__ = ("dims",)

    def __init__(self, *dims: int) -> None:
        if any(dim < -1 for dim in dims):
            raise ValueError(f"Shape{dims}: a dimension is a size, or -1 for any.")
        self.dims = dims

    def __repr__(self) -> str:
        return f"Shape{self.dims}"


class Kept:
    """Marks what a function keeps between the calls of a sequence; written as ``State[T]``."""

    def __repr__(self) -> str:
        return "KEPT"


KEPT: Final = Kept()

State = Annotated[T | None, KEPT]
"""What the call before in the same sequence left under the parameter's name; None in the first call.

The stage, or a later one, gives the new state as a value of that name. It is kept when the row has been answered, and is no part of
the answer. What was kept is not the stage's to change: it gives another object (arrays are read-only). In a stage that takes all rows,
``Rows[State[T]]``. The function declares ``sequences``.
"""
