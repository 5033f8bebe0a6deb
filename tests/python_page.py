"""docs/python-api.md: what authors import from `wakeful` and `wakeful.testing`, from the docstrings and
signatures of the code, with an example of each that a test runs.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import wakeful
from wakeful import testing

EXAMPLES: Final = {
    "Call": """
async def closest(text: str, embed: Annotated[Call, "embed"]) -> list[float]:   # `embed` is a function of the file
    return (await embed(text=text))["embedding"]
""",
    "CallError": """
def summary(text: str, translate: Annotated[Call, "translate"]) -> str:         # a plain stage does not await
    try:
        return translate(text=text)["text"]
    except CallError as error:
        if error.status == 400:
            return text
        raise
""",
    "Rows": """
def lengths(text: Rows[str]) -> Rows[int]:
    return [len(one) for one in text]
""",
    "Shape": """
Vector = Annotated[NDArray[np.float32], Shape(384)]


def norm(vector: Vector) -> float:
    return float(np.linalg.norm(vector))
""",
    "Header": """
def greet(name: str, tenant: Annotated[str, Header("x-tenant")]) -> str:
    return f"{tenant}: hello {name}"
""",
    "MediaType": """
def plan(x: int) -> Annotated[bytes, MediaType("application/pdf")]:
    return b"%PDF-1.7 ..."
""",
    "File": """
def thumbnail(image: bytes) -> Annotated[File, MediaType("image/*")]:
    return File(image, media_type="image/png", filename="thumbnail.png")
""",
    "RequestId": """
def trace(text: str, request: RequestId) -> str:
    return f"{request}: {text}"
""",
    "State": """
class Counted(TypedDict):
    count: int
    seen: int


def count(text: str, seen: State[int]) -> Counted:   # the function declares `sequences: {}`
    total = (seen or 0) + 1
    return {"count": total, "seen": total}
""",
    "RequestError": """
def half(x: int) -> int:
    if x % 2:
        raise RequestError("an even number is wanted.", where="x", status=422)
    return x // 2
""",
    "UpstreamError": """
def price(article: str) -> float:
    try:
        return {"tea": 2.5}[article]
    except KeyError:
        raise UpstreamError("the price list does not answer.") from None
""",
    "reserve": """
def fill(width: int, height: int) -> int:
    reserve(4 * width * height)
    return int(np.zeros((height, width), np.float32).size)
""",
}
"""By name: a stage that uses it."""

IMPORTS: Final = """
from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from wakeful import *
"""
"""What the examples need; the page shows it once."""

HEAD: Final = """# The Python API

What the modules of stages import from `wakeful`, and tests from `wakeful.testing`; nothing else is promised. This is all of it:

```python
from wakeful import {names}
from wakeful.testing import {tested}
```

How a stage is written is in [stages](stages.md), how it is tested in [testing](testing.md).

This page is written by `python -m tests.regenerate` from the code; a test fails when it is not up to date, and runs each example.
"""


def page() -> str:
    """The page."""
    names, tested = wakeful.__all__, testing.__all__
    parts = [HEAD.format(names=", ".join(names), tested=", ".join(tested))]
    parts += [_section(name, wakeful, EXAMPLES.get(name, "")) for name in names]
    parts.append("# Tests\n")
    parts += [_section(name, testing, "") for name in tested]
    return "\n".join(parts)


def _section(name: str, module: object, example: str) -> str:
    thing = getattr(module, name)
    lines = [f"## `{name}`\n"]
    lines += [f"```python\n{_signature(name, thing)}\n```\n"] if _has_signature(thing) else []
    lines.append(_prose(_doc(name, thing)))
    if example:
        lines.append(f"\n```python\n{example.strip()}\n```\n")
    if inspect.isclass(thing) and not name.endswith("Error"):
        for method, text in _methods(thing):
            lines.append(f"\n- `{method}`: {text}")
    return "\n".join(lines).rstrip() + "\n"


def _has_signature(thing: object) -> bool:
    is_own = getattr(thing, "__module__", "").startswith(("wakeful", "runtime"))
    if inspect.isclass(thing) and not vars(thing).get("__init__"):
        return False
    return is_own and (inspect.isfunction(thing) or inspect.isclass(thing))


def _signature(name: str, thing: object) -> str:
    function = inspect.unwrap(thing) if inspect.isfunction(thing) else thing  # type: ignore[arg-type]
    text = str(inspect.signature(function))  # type: ignore[arg-type]
    written = re.sub(r" -> (None|'None')$", "", f"{name}{text}")
    return re.sub(r"'([^']+)'", r"\1", written)


def _methods(of: type) -> Iterator[tuple[str, str]]:
    """Public methods with the first paragraph of their docstrings."""
    for name, method in vars(of).items():
        is_shown = not name.startswith("_") or name == "__call__"
        if is_shown and inspect.isfunction(method) and (doc := inspect.getdoc(method)):
            parameters = list(inspect.signature(inspect.unwrap(method)).parameters.values())[1:]
            shown = ", ".join(str(one).partition(":")[0] for one in parameters)
            called = f"({shown})" if name == "__call__" else f".{name}({shown})"
            yield called, " ".join(doc.split("\n\n")[0].split())


def _doc(name: str, thing: object) -> str:
    """Its docstring, or the text below its assignment."""
    for module in _sources(thing):
        tree = ast.parse(Path(str(module.__file__)).read_text())
        for node, following in zip(tree.body, [*tree.body[1:], None], strict=True):
            targets = node.targets if isinstance(node, ast.Assign) else ()
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                assert isinstance(following, ast.Expr)
                assert isinstance(following.value, ast.Constant)
                return inspect.cleandoc(str(following.value.value))
    return inspect.getdoc(thing) or ""


def _sources(thing: object) -> list:
    names = ("runtime.types.annotations",)
    return [importlib.import_module(name) for name in names if not inspect.isfunction(thing)]


def _prose(doc: str) -> str:
    """A docstring as Markdown: double backquotes become single ones, sections lists."""
    text = doc.replace("``", "`")
    parts = re.split(r"\n\n(Args|Attributes|Raises|Returns):\n", text)
    lines = [parts[0]]
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        rows = re.split(r"\n(?=\S)", textwrap.dedent(body))
        lines.append(f"\n{title}:\n")
        for row in rows:
            key, colon, rest = " ".join(row.split()).partition(": ")
            lines.append(f"- `{key}`{colon}{rest}")
    return "\n".join(lines)
