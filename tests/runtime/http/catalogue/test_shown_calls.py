"""Which functions a function calls is told where a user looks: its metadata, and `/docs`."""

from __future__ import annotations

import json
from typing import Annotated, Any

from runtime.declaration.function_spec import FunctionSpec
from wakeful import Call
from wakeful.testing import serve

HERE = __name__


def leaf(text: str) -> str:
    """Calls nothing."""
    return text


class Index:
    """Calls one when it is constructed."""

    def __init__(self, leaf: Annotated[Call, "leaf"]) -> None:
        self.first = leaf(text="first")

    def __call__(self, text: str, again: Annotated[Call, "by-stage"]) -> str:
        return f"{self.first} {again(text=text)}"


def python(name: str, **more: Any) -> dict[str, Any]:
    """A Python stage."""
    return {"stage": name, "python": f"{HERE}:{name}", **more}


FUNCTIONS: dict[str, list[dict[str, Any]]] = {
    "leaf": [python("leaf")],
    "by-stage": [{"stage": "call", "function": "leaf"}],
    "index": [python("Index")],
    "split": [python("leaf", deployment={"num_cpus": 1})],
}


def test_metadata_and_the_page_name_the_functions_that_are_called(tmp_path):
    """By a stage, from within one, and when it is constructed; of one that calls none, nothing."""
    file = tmp_path / "serve_config.yaml"
    applications = [{"name": name, "args": {"graph": graph}} for name, graph in FUNCTIONS.items()]
    file.write_text(json.dumps({"applications": applications}))
    with serve(file) as app:
        told = {
            name: app.http.get(f"/v2/models/{name}").json().get("parameters", {}).get("calls")
            for name in FUNCTIONS
        }
        paths = app.http.get("/openapi.json").json()["paths"]
    assert told == {"leaf": None, "by-stage": "leaf", "index": "by-stage, leaf", "split": None}
    shown = {name: paths[f"/v2/models/{name}"]["post"].get("description", "") for name in FUNCTIONS}
    assert shown == {
        "leaf": "",
        "by-stage": "It calls `leaf`.",
        "index": "It calls `by-stage`, `leaf` when it is constructed.",
        "split": "",
    }


def test_a_stage_that_is_split_off_is_no_function_of_its_own():
    """Where it is deployed by itself no client can call it; another function's is named."""
    wholes = {"f.part": "f", "g.part": "g", "leaf": ""}
    deployed = {
        "calls": {
            name: {"route_prefix": f"/{name}", "digest": name, "takes": {}, "gives": {}}
            for name in wholes
        },
        "declarations": {
            name: {"graph": [], "deployed": {"part_of": whole}} for name, whole in wholes.items()
        },
    }
    args = {"graph": [python("leaf")], "deployed": deployed}
    spec = FunctionSpec.from_args("f", "/f", args)
    assert list(spec.called_functions) == ["g.part", "leaf"]
