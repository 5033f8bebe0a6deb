"""What a stage author writes to be given another function: ``Annotated[Call, "embed"]``, the
annotation of a parameter of the stage, or of its ``__init__``.

``Call["embed"]`` is the same, and shorter. Within brackets a text is the name of a type to mypy,
and ruff (UP037) takes its quotes away.

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
    """Another function of the file, to be called from a stage: ``embed: Annotated[Call, "embed"]``,
    where the text is its name. ``Call["embed"]`` is the same, for code that neither mypy nor ruff
    reads: to them a text within brackets is the name of a type.

    Within a coroutine a call is awaited, ``await embed(text="a")``; elsewhere it waits for the
    answer, ``embed(text="a")``.
    """

    __slots__ = ()

    def __class_getitem__(cls, name: object) -> Any:
        if not isinstance(name, str) or not name:
            named = getattr(name, "__name__", "NAME")
            raise TypeError(f"Call takes the name of a function: write {annotation_of(named)}")
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


def annotation_of(function: str) -> str:
    """What to write to be given a function."""
    return f'`Annotated[Call, "{function}"]`'


def advice_on_quotes(annotations: Iterable[object], name: str | None) -> str:
    """What to write where a name is not known since that of a function has lost its quotes; empty
    where none of the annotations, as written, has it so.
    """
    if not any(f"Call[{name}]" in str(annotation) for annotation in annotations):
        return ""
    return (
        f" To be given the function {name!r}, write {annotation_of(str(name))}: its name is a text,"
        " and of Call[...] linters take the quotes away (ruff's UP037)."
    )


def called_function(annotation: Any) -> str | None:
    """The name of the function that a parameter is given by its annotation; None: it is given none.

    Raises:
        HandleError: the annotation has a handle in it, and is not one by itself.
    """
    if annotation is CallHandle:
        _refuse(f"does not say of which function. Write {annotation_of('NAME')}.")
    if get_origin(annotation) is Annotated:
        inner, *notes = get_args(annotation)
        if inner is CallHandle:
            found = [
                note.name if isinstance(note, CalledFunction) else note
                for note in notes
                if isinstance(note, str | CalledFunction)
            ]
            if len(found) != 1 or not found[0]:
                _refuse(f"does not name one function. Write {annotation_of('NAME')}.")
            return found[0]
        return called_function(inner)
    if any(_has_handle(inner) for inner in get_args(annotation)):
        _refuse(
            f"has a Call within another type. Write {annotation_of('NAME')} alone, a parameter"
            " each."
        )
    return None


def _refuse(why: str) -> NoReturn:
    raise HandleError(why)


def _has_handle(annotation: Any) -> bool:
    return annotation is CallHandle or any(map(_has_handle, get_args(annotation)))
