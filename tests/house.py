"""The measures of the house, from the code and from traced calls: ``python -m tests.house``.

What is on a way is counted where Python goes, by ``sys.setprofile``: the modules of ``runtime`` and
``deployments`` in which a function ran while one call was answered. The ways run in processes of
their own, as ``wakeful run`` and ``wakeful up`` (until Ray would start) do.
"""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import fields, is_dataclass
from http.client import HTTPConnection
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.request import urlopen

from tests.serving import ROOT, free_port
from tests.test_floors import FLOORS, entries_by_folder
from tests.walls import stray_modules

PRODUCT = ("runtime", "deployments")

PERSONS = re.compile(
    r"\b(who|whoever|somebody|nobody|everybody|anybody|he|him|his)\b", re.IGNORECASE
)

FILE_TYPES = (
    "Document",
    "ConfigFile",
    "ServeConfig",
    "FunctionArgs",
    "DeclaredSpec",
    "FunctionSpec",
)
"""Classes whose objects are the file, or a whole function of it. Whatever has one of them within it,
as an attribute, an element or a value, is the file as well, on its way through ``up``.
"""

FILE_KEYS = ("applications", "graph", "onnx")
"""Keys of plain data that is the file, or a whole function of it."""

DEEPEST = 6
"""Levels at which the file is looked for within a value."""

MOST_ATTRIBUTES = 20
"""Above it, a class is looked at for a second job."""

VALUE_BASES = {"NamedTuple", "StrictModel", "BaseModel", "Enum"}
"""Of classes whose objects are values."""

QUIET_S = 0.1
"""Before a call is traced: what the one before it leaves to do after its answer is not on its way."""

WAYS = ("wake", "first", "call")
"""Calls that are traced on one connection: its first two, and one of all others."""

TRACED = 3
"""Times that each is traced."""

FILE = """
applications:
  - name: f
    route_prefix: /v2/models/f
    import_path: deployments:function
    args:
      graph: [{stage: s, python: "stages:double"}]
      autoscaling: {downscale_to_zero_delay_s: 0.2}
"""

STAGES = """
def double(x: float) -> float:
    return 2 * x
"""


def files_of(*folders: str) -> list[Path]:
    """The Python files of some folders."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def lines_of(*folders: str) -> int:
    """Lines of the Python files of some folders."""
    return sum(path.read_text().count("\n") for path in files_of(*folders))


def widest_folder() -> str:
    """The folder of the project's code with the most entries."""
    folder, count = max(entries_by_folder().items(), key=lambda entry: entry[1])
    return f"{count} ({folder})"


def persons() -> int:
    """Words for persons in the prose of the product: docstrings, comments and other texts."""
    count = 0
    for path in files_of(*PRODUCT):
        text = path.read_text()
        texts = [
            node.value
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        comments = re.findall(r"(?:^|\s)#(.*)", text)
        count += sum(len(PERSONS.findall(one)) for one in [*texts, *comments])
    return count


def attributes_of(node: ast.ClassDef) -> set[str]:
    """The attributes of a class: its fields, and what its methods assign to their first argument."""
    found = set()
    for one in node.body:
        match one:
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
            case ast.Assign(targets=targets):
                found |= {one.id for one in targets if isinstance(one, ast.Name)}
            case ast.FunctionDef() | ast.AsyncFunctionDef() if one.args.args:
                owner = one.args.args[0].arg
                found |= {
                    part.attr
                    for part in ast.walk(one)
                    if isinstance(part, ast.Attribute)
                    and isinstance(part.ctx, ast.Store)
                    and isinstance(part.value, ast.Name)
                    and part.value.id == owner
                }
    return {name for name in found if not (name.startswith("__") or name.isupper())}


def is_value_class(node: ast.ClassDef, bases: Collection[str] = ()) -> bool:
    """Whether its objects are values: a frozen dataclass, a named tuple, or a section of a file.

    Args:
        bases: other classes of values.
    """
    names = {ast.unparse(base).split(".")[-1] for base in node.bases}
    is_frozen = any("frozen=True" in ast.unparse(one) for one in node.decorator_list)
    return is_frozen or bool(names & {*VALUE_BASES, *bases})


def large_classes() -> list[tuple[int, str]]:
    """Classes of the product with more than ``MOST_ATTRIBUTES``, values apart; the largest first."""
    found = []
    for path in files_of(*PRODUCT):
        values: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ClassDef):
                continue
            if is_value_class(node, values):
                values.add(node.name)
            elif (count := len(attributes_of(node))) > MOST_ATTRIBUTES:
                found.append((count, f"{node.name} ({path.relative_to(ROOT)})"))
    return sorted(found, reverse=True)


def is_file(value: Any, depth: int = 0) -> bool:
    """Whether a value is the declaration, or a whole function of it, in whatever form, or has one
    within it.
    """
    if value is None or depth > DEEPEST or isinstance(value, str | bytes | int | float | Path):
        return False
    kind = type(value)
    if kind.__name__ in FILE_TYPES:
        return True
    if isinstance(value, dict):
        parts = value.values()
        if any(key in value for key in FILE_KEYS):
            return True
    elif isinstance(value, list | tuple | set | frozenset):
        parts = value
    elif not kind.__module__.startswith(PRODUCT) or is_model(kind):
        return False
    elif is_dataclass(kind):
        parts = [getattr(value, one.name, None) for one in fields(kind)]
    else:
        parts = getattr(value, "__dict__", {}).values()
    return any(is_file(part, depth + 1) for part in [*parts])


def is_model(kind: type) -> bool:
    """Whether it is one of pydantic's: a section of a function, or a record."""
    return hasattr(kind, "__pydantic_validator__")


def is_value(thing: Any) -> bool:
    """Whether its methods only read from it."""
    kind = thing if isinstance(thing, type) else type(thing)
    parameters = getattr(kind, "__dataclass_params__", None)
    return is_model(kind) or isinstance(thing, type) or bool(parameters and parameters.frozen)


class Trace:
    """Notes where Python goes while ``is_on``, in all threads that start after it.

    Attributes:
        modules: files of the product in which a function began.
        path: the files in which functions were given the declaration, in their order; each function
            counts once. A value's own methods do not count: to read from it is no stay.
        functions: these functions, as ``file:name``.
    """

    def __init__(self, *, follows_file: bool = False) -> None:
        self.is_on = False
        self.follows_file = follows_file
        self.modules: set[str] = set()
        self.path: list[str] = []
        self.functions: list[str] = []
        self._is_looking = False
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        if not self.is_on or event != "call" or self._is_looking:
            return
        code = frame.f_code
        file = code.co_filename
        if not file.startswith(tuple(f"{ROOT / name}{os.sep}" for name in PRODUCT)):
            return
        file = str(Path(file).relative_to(ROOT))
        self.modules.add(file)
        where = f"{file}:{code.co_qualname}"
        if not self.follows_file or where in self.functions or code.co_name.startswith("<"):
            return
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        given = [frame.f_locals.get(name) for name in names]
        self._is_looking = True  # a property that is read is no call of the product's
        if names[:1] in (("self",), ("cls",)) and is_value(given[0]):
            del given[0]
        if any(map(is_file, given)):
            self.functions.append(where)
            if not self.path or self.path[-1] != file:
                self.path.append(file)
        self._is_looking = False


def trace_calls(folder: Path) -> None:
    """Prints the modules on the way of the call that wakes a function, and of one after it."""
    from deployments.cli import main

    trace, port = Trace(), free_port()
    found: dict[str, list[set[str]]] = {way: [] for way in WAYS}

    def wait_until_asleep() -> None:
        for _ in range(400):
            try:
                with urlopen(f"http://127.0.0.1:{port}/v2/repository/index", timeout=5) as index:
                    if json.load(index)[0]["reason"] == "asleep":
                        return
            except OSError:
                pass
            time.sleep(0.05)

    def call() -> None:
        for _ in range(TRACED):
            wait_until_asleep()
            connection = HTTPConnection("127.0.0.1", port, timeout=30)  # one, as HAProxy keeps it
            for way in WAYS:
                time.sleep(QUIET_S)
                trace.modules.clear()
                trace.is_on = True
                connection.request("POST", "/v2/models/f", b'{"x": 1.5}')
                assert connection.getresponse().read()
                trace.is_on = False
                found[way].append(set(trace.modules))
            connection.close()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=call, daemon=True).start()
    main(["run", str(folder / "serve_config.yaml"), "--port", str(port)], standalone_mode=False)
    # what the server does each second may fall into one of them, and is on no way
    print(json.dumps({way: sorted(set.intersection(*seen)) for way, seen in found.items()}))


def trace_file(folder: Path) -> None:
    """Prints the files that the declaration goes through in ``wakeful up``, until Ray starts."""
    from deployments.cli import main
    from deployments.cluster.cluster import Cluster

    class Reached(Exception):
        pass

    def stop(*_: object) -> None:
        raise Reached

    Cluster.up = stop  # type: ignore[method-assign,assignment]
    trace = Trace(follows_file=True)
    trace.is_on = True
    try:
        main(["up", str(folder / "serve_config.yaml"), "--detach"], standalone_mode=False)
    except Reached:
        trace.is_on = False
    print("\n".join(trace.functions), file=sys.stderr)
    print(json.dumps(trace.path))


def traced(way: str) -> Any:
    """What a traced way prints, in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "serve_config.yaml").write_text(FILE)
        (folder / "stages.py").write_text(STAGES)
        environment = {
            **os.environ,
            "WAKEFUL_ROOT": name,
            "TMPDIR": name,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{name}",
        }
        done = subprocess.run(
            [sys.executable, "-c", f"from tests import house; house.{way}(house.Path({name!r}))"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measures() -> Iterator[tuple[str, object]]:
    """Each measure of the house, and what it comes to."""
    yield "product modules", len(files_of(*PRODUCT))
    yield "product lines", lines_of(*PRODUCT)
    yield "entries in one folder", widest_folder()
    floors = {
        package: sum(any((ROOT / package / name).is_dir() for name in names) for names in floors)
        for package, floors in FLOORS.items()
    }
    yield "floors of folders", ", ".join(f"{package} {count}" for package, count in floors.items())
    calls = traced("trace_calls")
    yield "modules on the way of a JSON call", len(calls["call"])
    yield "modules on the way of a wake", len(calls["wake"])
    path = traced("trace_file")
    yield "stays of the file in `wakeful up`", f"{len(path)} in {len(set(path))} files"
    yield "returns of the file", len(path) - len(set(path))
    yield "visits of the file to one module", max(Counter(path).values())
    yield "loadtests lines", lines_of("loadtests")
    yield "persons in prose", persons()
    large = large_classes()
    listed = ", ".join(f"{name} {count}" for count, name in large)
    yield f"classes above {MOST_ATTRIBUTES} attributes", f"{len(large)}: {listed}"
    yield "modules that know another program's inside", stray_modules()
    most = Counter(path).most_common(3)
    yield "most visited", ", ".join(f"{file} {count}" for file, count in most)


if __name__ == "__main__":
    for measure, value in measures():
        print(f"{measure:40} {value}")
