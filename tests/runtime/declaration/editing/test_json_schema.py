"""The JSON Schema that editors get takes what the file's reader takes, and marks its mistakes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from runtime.declaration.editing.json_schema import file_schema
from runtime.declaration.function_spec import FunctionArgs
from tests.file_tag import safe_load

ROOT = Path(__file__).parents[4]

SCHEMA = file_schema()

F = "applications:\n  - name: f\n"


def errors(text: str) -> list[str]:
    """Where a file is wrong, outermost first: the path of each error, with what it is about."""
    found = Draft202012Validator(SCHEMA).iter_errors(safe_load(text))
    return sorted("/".join(map(str, error.path)) for error in found)


def declarations(page: Path) -> list[str]:
    """The files on a page."""
    blocks = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [block for block in blocks if re.search(r"^applications:\n *- ", block, re.MULTILINE)]


def test_it_is_a_schema_and_refers_to_what_it_has() -> None:
    """Of draft 2020-12; the keys that only commands write are not in it."""
    Draft202012Validator.check_schema(SCHEMA)
    args = SCHEMA["$defs"]["FunctionArgs"]["properties"]
    assert not FunctionArgs.COMMAND_KEYS.keys() & set(args)
    assert {"onnx", "sha256", "graph"} <= set(args)
    for key in args.values():
        section = SCHEMA["$defs"].get(key.get("$ref", "").removeprefix("#/$defs/"), {})
        assert key.get("description") or section["description"]
        assert not isinstance(key.get("default"), dict)
    for name in re.findall(r"'#/\$defs/(\w+)'", repr(SCHEMA)):
        assert name in SCHEMA["$defs"]


def test_it_takes_the_shipped_file_and_those_of_the_pages() -> None:
    """Each is right."""
    files = [(ROOT / "serve_config.yaml").read_text(encoding="utf-8")]
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        files += declarations(page)
    assert len(files) > 5
    for text in files:
        assert errors(text) == [], text


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (F + "    args: {onnx: iris.onnx}", []),
        (F + "    args: {graph: [{stage: a, python: 'm:f', when: not x}]}", []),
        (F + f"    args: {{model: 'hf:org/name@{'a' * 40}', task: embedding}}", []),
        (F + "    args: {model: models/mine, task: embedding, quantize: int8}", []),
        ("applications:\n  - import_path: their.page:app", []),
        ("applications:\n  - import_path: page", ["applications/0/import_path"]),
        ("applications:\n  - import_path: deployments:host", ["applications/0"]),
        (
            "applications:\n  - {name: h, import_path: 'deployments:host', route_prefix: null}",
            ["applications/0/route_prefix"],
        ),
        (
            F + "    args: {model: 'hf:org/name@abc', task: embedding}",
            ["applications/0/args/model"],
        ),
        (F + "    args: {model: models/mine}", ["applications/0/args"]),
        (F + "    args: {graph: []}", ["applications/0/args/graph"]),
        (F + "    args: {graph: [{stage: a}]}", ["applications/0/args/graph/0"]),
        (
            F + "    args: {graph: [{stage: a, python: 'm:f', each: a b}]}",
            ["applications/0/args/graph/0/each"],
        ),
        (
            F + "    args: {graph: [{stage: a, python: 'm:f', when: a b}]}",
            ["applications/0/args/graph/0/when"],
        ),
        (
            F + "    args: {onnx: a.onnx, autoscaling: {awake: always}}",
            ["applications/0/args/autoscaling/awake"],
        ),
        (F + "    import_path: their.page:app\n    args: {anything: 1}", []),
        (F + "    import_path: deployments:catalogue", []),
        ("applications: {}", ["applications"]),
        ("aplications: []", ["", ""]),
        (F + "    args: {onnx: iris.onnx, tire: own}", ["applications/0/args"]),
        (F + "    args: {onnx: iris.pt}", ["applications/0/args/onnx"]),
        (
            F + "    args: {onnx: a.onnx, graph: [{stage: a, onnx: b.onnx}]}",
            ["applications/0/args"],
        ),
        (F + "    args: {}", ["applications/0/args"]),
        (F, ["applications/0"]),
        (F + "    args: {onnx: a.onnx, tier: mine}", ["applications/0/args/tier"]),
        (F + "    args: {onnx: a.onnx, calls: {}}", ["applications/0/args"]),
        (F + "    args: {onnx: a.onnx, deployed: {}}", ["applications/0/args"]),
        (
            F + "    args: {onnx: a.onnx, batching: {max_batch_size: many}}",
            ["applications/0/args/batching/max_batch_size"],
        ),
        (
            F + "    args: {onnx: a.onnx, limits: {request_timeout_s: 0}}",
            ["applications/0/args/limits/request_timeout_s"],
        ),
        (
            F + "    args: {graph: [{stage: a, python: sent.py}]}",
            ["applications/0/args/graph/0/python"],
        ),
        (F + "    args: {graph: [{python: 'm:f'}]}", ["applications/0/args/graph/0"]),
        ("applications:\n  - name: a b\n    args: {onnx: a.onnx}", ["applications/0/name"]),
        (
            F + "    route_prefix: f\n    args: {onnx: a.onnx}",
            ["applications/0/route_prefix"],
        ),
        (F + "    import_path: deployments:host\n    args: {a: 1}", ["applications/0/args"]),
        ("http_options: {prot: 1}\n" + F + "    args: {onnx: a.onnx}", ["http_options"]),
    ],
)
def test_a_mistake_is_marked_where_it_is(text: str, where: list[str]) -> None:
    """Keys, kinds, bounds and forms; right files are not marked."""
    assert errors(text) == where
