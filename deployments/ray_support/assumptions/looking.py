"""How the inside of Ray is looked at: names, arguments, texts in its source. Nothing is changed."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from runtime.system.assumptions import require


def require_names(owner: Any, *names: str) -> None:
    """An object, a class or a module has these names."""
    missing = [name for name in names if not hasattr(owner, name)]
    require(not missing, f"{_name(owner)} has no {', '.join(missing)}")


def require_written(owner: Any, *names: str) -> None:
    """The source of a class or a function names these attributes, which exist in objects only."""
    source = inspect.getsource(owner)
    missing = [name for name in names if f".{name}" not in source]
    require(not missing, f"nothing in {_name(owner)} names {', '.join(missing)}")


def require_arguments(called: Callable[..., Any], *positional: object, **by_name: object) -> None:
    """It can be called with these arguments: so many at their places, and others by name."""
    signature = inspect.signature(called)
    try:
        signature.bind(*positional, **by_name)
    except TypeError as error:
        require(False, f"{_name(called)}{signature} is called otherwise: {error}")


def texts_of(module: ModuleType, value: str) -> Iterator[str]:
    """Every text in a module's source, those that lie beside each other as one; each value that is
    put into one is ``value``.
    """
    assert module.__file__
    for node in ast.walk(_tree(module.__file__)):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else value for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@cache
def _tree(file: str) -> ast.Module:
    return ast.parse(Path(file).read_text(encoding="utf-8"))


def _name(owner: Any) -> str:
    return str(getattr(owner, "__qualname__", getattr(owner, "__name__", repr(owner))))
