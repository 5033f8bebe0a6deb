"""Every route that is served is in the OpenAPI document, and every route in it is served."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

import runtime
from runtime.declaration.config_file import read
from runtime.graph.description.interface_schemas import describe_interface
from runtime.graph.resolve import resolve
from runtime.http.catalogue.app import catalogue
from runtime.http.catalogue.console.routes import Console
from runtime.http.catalogue.openapi import DescribedFunction, OpenApiText
from runtime.http.catalogue.openapi_parts import REPOSITORY
from runtime.http.function_routes import METHODS
from runtime.settings import Settings
from tests import odd_types
from wakeful.testing import serve

NOT_DESCRIBED: Final = {
    "/docs": "the page that shows the document",
    "/docs/{file}": "and its files",
    "/console": "the page for browsers",
    "/console/assets/{path:path}": "and its files",
    "/console/session": "what the page asks for itself, and no other program",
    "/console/events": "likewise",
    "/console/functions/{name}": "likewise",
    "/console/functions/{name}/{verb}": "likewise",
    "/v1/": "the prefix of the tasks' routes",
}

AS_REPOSITORY: Final = re.compile(r"^(/v2/repository/models/\{name\})/(?:load|unload|pin|unpin)$")


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Methods by path, as the document of a catalogue has them that has every route."""
    folder = tmp_path_factory.mktemp("odd")
    config = resolve(read(odd_types.write(folder)), Settings.read({"WAKEFUL_ROOT": str(folder)}))
    functions = [
        DescribedFunction(spec, describe_interface(config.assemblies[spec.name]))
        for spec in config.functions
    ]
    text, _ = OpenApiText(lambda: ((), lambda: functions), list(CATALOGUE)).read()
    return methods_of(json.loads(text))


def methods_of(document: dict[str, Any]) -> dict[str, set[str]]:
    """By path."""
    return {
        path: {method.upper() for method in methods} for path, methods in document["paths"].items()
    }


async def nothing(*_: object) -> Any:
    """No route is asked here."""
    raise AssertionError


CATALOGUE: Final = {
    route.path: set(route.methods)
    for route in catalogue(
        nothing,
        nothing,
        nothing,
        nothing,
        object(),
        lambda: ((), lambda: ()),
        captures=object(),
        console=Console(SimpleNamespace()),
    ).routes
    if route.path not in NOT_DESCRIBED
}
"""Methods of its routes, by path."""


@pytest.mark.slow
def test_what_is_served_is_described(described: dict[str, set[str]]) -> None:
    """With its methods: the routes of the catalogue, and those below each function. ``HEAD`` is
    ``GET``'s, and version 1 of a function is the function.
    """
    assert CATALOGUE.keys() >= {"/", "/metrics", "/functions/{name}", REPOSITORY}
    for path, methods in CATALOGUE.items():
        found = {
            method
            for known, of in described.items()
            if AS_REPOSITORY.sub(r"\1/{verb}", known) == path
            for method in of
        }
        assert methods - {"HEAD"} == found, path
    for name in ("look", "count"):
        known = {
            path.removeprefix(f"/v2/models/{name}"): of
            for path, of in described.items()
            if re.match(rf"/v2/models/{name}(/|$)", path)
        }
        other = ("/infer",) if name == "count" else ("/generate", "/generate_stream")
        assert known == {
            route: set(of) - {"HEAD"} for route, of in METHODS.items() if route not in other
        }


@pytest.mark.slow
def test_each_path_in_the_code_of_the_edge_is_described(described: dict[str, set[str]]) -> None:
    """Whatever answers there: what is matched by hand stands in no table of routes."""
    known = {AS_REPOSITORY.sub(r"\1/{verb}", path) for path in described} | NOT_DESCRIBED.keys()
    folder = Path(runtime.__file__).parent / "http"
    written = {
        path
        for file in folder.rglob("*.py")
        for path in re.findall(
            r'"(/(?:v[12]|docs|metrics|functions|openapi)\b[^"\s]*)"', file.read_text()
        )
    }
    assert "/v2/models/stats" in written
    tasks = {path for path in written if path.startswith("/v1/")}
    assert written - tasks <= known
    assert {"/v1/models", "/v1/embeddings"} <= tasks & described.keys()
    assert "/v1/models/{model}" in described


@pytest.mark.slow
def test_what_is_described_is_served(tmp_path: Path) -> None:
    """With each of its methods; an empty body is refused, and that is an answer."""
    names = {"{name}": "look", "{model}": "vector"}
    with serve(odd_types.write(tmp_path)) as app:
        for path, methods in methods_of(app.http.get("/openapi.json").json()).items():
            url = re.sub(r"\{\w+\}", lambda found: names[found[0]], path)
            for method in methods:
                answer = app.http.request(method, url)
                assert answer.status_code not in (404, 405, 500), f"{method} {url}: {answer.text}"
