"""Calls of functions as they are written out in a stage, ``embed(text=text)``: their fields are
known before anything runs.

What a stage calls in another way (``embed(**fields)``, a handle that was stored or passed on) is
not seen, and is the function's to refuse.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runtime.artifacts.tracebacks import relative_name
from runtime.system.messages import did_you_mean


@dataclass(frozen=True, slots=True)
class LiteralCall:
    """A call as it is written.

    Attributes:
        place: ``search.py:12``.
        fields: that it names.
        is_whole: it gives no others.
        has_positions: it gives values without their names.
        lacks_await: it is made in a coroutine, which takes something of its answer without having
            awaited it.
    """

    place: str
    fields: tuple[str, ...]
    is_whole: bool
    has_positions: bool
    lacks_await: bool = False


def find_literal_calls(function: Callable[..., Any], parameter: str) -> Iterator[LiteralCall]:
    """The calls of a parameter in the body of a Python function; none where its source cannot be
    read, or the name stands for something else as well.
    """
    found = inspect.unwrap(function)
    try:
        lines, first = inspect.getsourcelines(found)
        file = inspect.getsourcefile(found) or ""
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return
    nodes = list(ast.walk(tree))
    bound = sum(isinstance(node, ast.arg) and node.arg == parameter for node in nodes)
    is_changed = any(
        isinstance(node, ast.Name) and node.id == parameter and not isinstance(node.ctx, ast.Load)
        for node in nodes
    )
    if bound != 1 or is_changed:
        return
    is_coroutine = any(isinstance(node, ast.AsyncFunctionDef) for node in nodes)
    used = [node.value for node in nodes if isinstance(node, ast.Subscript | ast.Attribute)]
    for node in nodes:
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == parameter
        ):
            yield LiteralCall(
                f"{relative_name(file)}:{first + node.lineno - 1}",
                tuple(keyword.arg for keyword in node.keywords if keyword.arg is not None),
                all(keyword.arg is not None for keyword in node.keywords),
                bool(node.args),
                is_coroutine and node in used,
            )


def call_issue(call: LiteralCall, function: str, takes: Mapping[str, Mapping[str, Any]]) -> str:
    """What is wrong with a call of a function, in a sentence; empty when nothing is.

    Args:
        takes: the function's fields, as ``CalleeSpec.takes``.
    """
    what = f"{call.place} calls {function!r}"
    names = ", ".join(takes) or "none"
    if call.lacks_await:
        return f"{what} without `await`, and there is no answer yet. Write `(await …)[…]`."
    if call.has_positions:
        return f"{what} without the names of its fields. Write `NAME=value`; there are: {names}."
    for field in call.fields:
        if field not in takes:
            hint = did_you_mean(field, takes) or f"; there are: {names}."
            return f"{what} with a field {field!r} that it does not take{hint}"
    missing = [
        name
        for name, known in takes.items()
        if name not in call.fields and "default" not in known and "has_default" not in known
    ]
    if missing and call.is_whole:
        return f"{what} without {', '.join(map(repr, missing))}, which it needs."
    return ""
