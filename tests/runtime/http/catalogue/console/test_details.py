"""One function as the console shows it, from what is declared."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

import pytest

from runtime.declaration.config_file import read
from runtime.graph.description.explained import explain_function
from runtime.graph.description.interface_schemas import describe_interface
from runtime.graph.resolve import resolve
from runtime.http.catalogue.console.changes import to_entry
from runtime.http.catalogue.console.details import describe_function, resolved
from runtime.http.catalogue.console.sources import DeclaredDetails
from runtime.http.catalogue.key_view import HIDDEN
from runtime.settings import Settings
from tests import onnx_models

HERE = __name__


class Words(TypedDict):
    """What a text has."""

    words: list[str]
    is_long: bool


class Split:
    """A stage that gives two values."""

    def __call__(self, text: str) -> Words:
        return {"words": text.split(), "is_long": len(text) > 9}


def shout(words: list[str]) -> list[str]:
    """Louder."""
    return [word.upper() for word in words]


def answer(words: list[str]) -> dict[str, Any]:
    """The answer."""
    return {"words": words}


FILE = f"""\
applications:
  - name: double
    args: {{onnx: double.onnx}}
  - name: other
    args:
      description: Called by the first one.
      graph: [{{stage: answer, python: "{HERE}:answer"}}]
      batching: {{max_batch_size: 7}}
"""


def described(tmp_path: Path, name: str, text: str = FILE, **more: Any) -> Any:
    """The details of a function of a file."""
    onnx_models.double(tmp_path / "double.onnx")
    file = tmp_path / "serve_config.yaml"
    file.write_text(text)
    config = resolve(read(file), Settings.read({"WAKEFUL_ROOT": str(tmp_path)}))
    specs = {spec.name: spec for spec in config.functions}
    details = DeclaredDetails(
        specs[name],
        describe_interface(config.assemblies[name]),
        explain_function(name, config, specs),
    )
    entry = to_entry({"name": name, "state": "asleep"}, {})
    return describe_function(details, entry, **more)


def test_a_model_has_a_node_and_its_signature(tmp_path):
    """And a form, by its schema."""
    details = described(tmp_path, "double")
    nodes = {node["id"]: node for node in details["graph"]["nodes"]}
    (stage,) = [node for node in nodes.values() if node["kind"] == "model"]
    assert stage["detail"]["what"] == "double.onnx"
    edges = {(edge["from"], edge["to"]): edge["fields"] for edge in details["graph"]["edges"]}
    assert edges == {("request", stage["id"]): ["x"], (stage["id"], "answer"): ["y"]}
    (taken,) = details["signature"]["inputs"]
    assert (taken["name"], taken["datatype"], taken["optional"]) == ("x", "FP32", False)
    assert details["form"]["properties"]["x"]["type"] == "array"
    assert details["takes"] == ["application/json"]


def test_settings_say_where_they_come_from(tmp_path):
    """The line of the file, whose folder is not told, or the default."""
    settings = {one["key"]: one for one in described(tmp_path, "other")["settings"]}
    size = settings["batching.max_batch_size"]
    assert (size["value"], size["origin"]) == (7, "serve_config.yaml:8")
    assert settings["tier"] == {"key": "tier", "value": "auto", "origin": "default"}
    assert "description" not in settings


CALLING = f"""\
applications:
  - name: other
    args: {{graph: [{{stage: answer, python: "{HERE}:answer"}}]}}
  - name: caller
    args:
      graph:
        - {{stage: split, python: "{HERE}:Split"}}
        - {{stage: loud, python: "{HERE}:shout", when: is_long, outputs: {{loud: words}}}}
        - {{stage: call, function: other}}
"""


def test_a_value_of_a_condition_comes_from_each_that_may_give_it(tmp_path):
    """From the stage with the condition, and from whatever gave it before; the condition's own value
    goes there, too.
    """
    details = described(tmp_path, "caller", CALLING)
    edges = {(edge["from"], edge["to"]): edge["fields"] for edge in details["graph"]["edges"]}
    assert edges["stage:split", "stage:loud"] == ["words", "is_long"]
    assert edges["stage:split", "stage:call"] == ["words"]
    assert edges["stage:loud", "stage:call"] == ["words"]
    nodes = {node["id"]: node for node in details["graph"]["nodes"]}
    assert nodes["stage:loud"]["detail"]["when"] == "is_long"
    assert nodes["stage:call"]["kind"] == "function"
    assert nodes["stage:call"]["detail"]["runs"]


def test_what_a_key_does_not_open_has_no_name(tmp_path):
    """Where a stage calls it; nor is it said what replicas and resources it has."""
    details = described(tmp_path, "caller", CALLING, seen={"caller"})
    nodes = {node["id"]: node for node in details["graph"]["nodes"]}
    assert nodes["stage:call"]["detail"]["what"] == HIDDEN
    assert "runs" not in nodes["stage:call"]["detail"]


INTERFACE: Any = {
    "definitions": {
        "Box": {"type": "object", "properties": {"inner": {"$ref": "#/$defs/Box"}}},
        "Pair": {"type": "array", "items": {"$ref": "#/$defs/Word"}},
        "Word": {"type": "string"},
    }
}


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        ({"$ref": "#/$defs/Pair"}, {"type": "array", "items": {"type": "string"}}),
        (
            {"anyOf": [{"$ref": "#/$defs/Word"}, {"type": "null"}]},
            {"anyOf": [{"type": "string"}, {"type": "null"}]},
        ),
        (
            {"$ref": "#/$defs/Word", "description": "Said."},
            {"type": "string", "description": "Said."},
        ),
        (
            {"$ref": "#/$defs/Box"},
            {"type": "object", "properties": {"inner": {"$ref": "#/$defs/Box"}}},
        ),
    ],
    ids=["within", "alternatives", "beside", "itself"],
)
def test_a_form_has_what_its_references_lead_to(schema, found):
    """But for a type that has itself within."""
    assert resolved(schema, INTERFACE) == found


def test_a_form_that_would_grow_without_an_end_is_cut():
    """A type that has another twice within, which has another twice within, and so on."""
    definitions = {
        f"T{n}": {"anyOf": [{"$ref": f"#/$defs/T{n + 1}"}, {"$ref": f"#/$defs/T{n + 1}"}]}
        for n in range(40)
    }
    interface: Any = {"definitions": {**definitions, "T40": {"type": "string"}}}
    found = resolved({"$ref": "#/$defs/T0"}, interface)
    assert len(str(found)) < 2_000_000
