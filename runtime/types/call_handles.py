"""What a stage author writes to be given another function: ``Call["embed"]``, the annotation of a
parameter of the stage, or of its ``__init__``.

``runtime.execution.handles`` makes what such a parameter is given; here it is only named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, get_args, get_origin


@dataclass(frozen=True, slots=True)
class CalledFunction:
    """The note of an annotation that names a function."""

    name: str

    def __repr__(self) -> str:
        return f"CalledFunction({self.name!r})"


class CallHandle:
    """Another function of the file, to be called from a stage: ``embed: Call["embed"]``, where
    ``embed`` is its name. ``Annotated[Call, "embed"]`` is the same for what takes a text within
    brackets for the name of a type, as mypy does and ruff.

    Within a coroutine a call is awaited, ``await embed(text="a")``; elsewhere it waits for the
    answer, ``embed(text="a")``.
    """

    __slots__ = ()

    def __class_getitem__(cls, name: object) -> Any:
        if not isinstance(name, str) or not name:
            raise TypeError(
                "Call takes the name of a function in quotes, as Call['embed']. Where a linter"
                " takes them away: Annotated[Call, 'embed']"
            )
        return Annotated[CallHandle, CalledFunction(name)]

    if TYPE_CHECKING:

        def __call__(self, /, **fields: Any) -> Any:
            """Call the function with one row; within a coroutine, to be awaited.

            Args:
                fields: of the function.

            Returns:
                What the function answers: by name, numbers, text, arrays. It is the caller's own.

            Raises:
                CallError: it did not answer.
            """

        def rows(
            self, rows: Iterable[Mapping[str, Any]], *, return_exceptions: bool = False
        ) -> Any:
            """Call the function with many rows, sent together; within a coroutine, to be awaited.

            Args:
                rows: the fields of each.
                return_exceptions: a row that failed has its ``CallError`` among the answers.
                    Otherwise the first one is raised.

            Returns:
                A list with an answer for each row, in their order.

            Raises:
                CallError: a row was not answered, or none was.
            """


Call = CallHandle


class HandleError(TypeError):
    """An annotation of a handle that cannot be one; the message is about the parameter, which it
    follows.
    """


def called_function(annotation: Any) -> str | None:
    """The name of the function that a parameter is given by its annotation; None: it is given none.

    Raises:
        HandleError: the annotation has a handle in it, and is not one by itself.
    """
    if annotation is CallHandle:
        _refuse('does not say of which function. Write `Call["NAME"]`.')
    if get_origin(annotation) is Annotated:
        inner, *notes = get_args(annotation)
        if inner is CallHandle:
            found = [
                note.name if isinstance(note, CalledFunction) else note
                for note in notes
                if isinstance(note, str | CalledFunction)
            ]
            if len(found) != 1 or not found[0]:
                _refuse('does not name one function. Write `Call["NAME"]`.')
            return found[0]
        return called_function(inner)
    if any(_has_handle(inner) for inner in get_args(annotation)):
        _refuse('has a Call within another type. Write `Call["NAME"]` alone, a parameter each.')
    return None


def _refuse(why: str) -> NoReturn:
    raise HandleError(why)


def _has_handle(annotation: Any) -> bool:
    return annotation is CallHandle or any(map(_has_handle, get_args(annotation)))
