"""Finds calls of coroutine functions, in the code of a stage, whose ``await`` is missing: what such
a call gives is no answer, and what it was to do is never done.

Only the code of the stage itself is read, and only a call whose result goes nowhere else: it is
returned, yielded, or thrown away. What is kept in a variable may be awaited later.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import textwrap
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, get_origin

from runtime.artifacts.tracebacks import relative_name


def find_forgotten_awaits(stage: Callable[..., Any]) -> Iterator[str]:
    """What is to be said of each such call, with its place: ``iris.py:9: ...``.

    Args:
        stage: a function, or a class or an object with ``__call__``.
    """
    function = stage if inspect.isroutine(stage) else getattr(stage, "__call__", None)  # noqa: B004 - it is read
    owner = stage if isinstance(stage, type) else type(stage)
    function = inspect.unwrap(function) if callable(function) else None
    function = getattr(function, "__func__", function)
    if not inspect.isfunction(function) or _gives_awaitable(function):
        return
    with contextlib.suppress(OSError, TypeError, SyntaxError, ValueError):  # without its source
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines))).body[0]
        if isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef):
            for call, how in _results(tree):
                called = _called(call.func, function, owner)
                if inspect.iscoroutinefunction(called):
                    file, text = function.__code__.co_filename, ast.unparse(call.func)
                    yield (
                        f"{relative_name(file)}:{first + call.lineno - 1}: {text}() is a coroutine,"
                        f" and its `await` is missing.{_fix(tree, how, text)}"
                    )


def _fix(tree: ast.FunctionDef | ast.AsyncFunctionDef, how: str, text: str) -> str:
    written = f"{how}await {text}(…)"
    if isinstance(tree, ast.AsyncFunctionDef):
        return f" Write `{written}`."
    return f" Make {tree.name!r} an `async def`, and write `{written}`."


def _gives_awaitable(function: Callable[..., Any]) -> bool:
    try:
        wanted = inspect.get_annotations(function, eval_str=True).get("return")
    except Exception:  # whatever evaluating a user's annotation raises, which is told elsewhere
        return False
    return get_origin(wanted) in (Awaitable, Coroutine) or wanted in (Awaitable, Coroutine)


def _results(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    """Calls whose result is returned, yielded or thrown away, and what stands before them; not
    those within another function.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        value = getattr(node, "value", None)
        if isinstance(value, ast.Call):
            if isinstance(node, ast.Return):
                yield value, "return "
            elif isinstance(node, ast.Yield):
                yield value, "yield "
            elif isinstance(node, ast.Expr):
                yield value, ""
        yield from _results(node)


def _called(name: ast.expr, function: Any, owner: type) -> Any:
    """The object that a name in a function's code stands for, where that is certain."""
    if isinstance(name, ast.Name):
        if name.id in function.__code__.co_varnames:
            return None
        return function.__globals__.get(name.id)
    if isinstance(name, ast.Attribute) and isinstance(name.value, ast.Name):
        names = function.__code__.co_varnames
        if name.value.id in names:
            is_self = function.__code__.co_argcount and name.value.id == names[0]
            return getattr(owner, name.attr, None) if is_self else None
        holder = function.__globals__.get(name.value.id)
        return getattr(holder, name.attr, None) if inspect.ismodule(holder) else None
    return None
