"""Files that were made to take time or memory: each is refused, or read, with little of both."""

from __future__ import annotations

import contextlib
import tracemalloc
from pathlib import Path

import pytest

from runtime.declaration.config_file import read
from runtime.declaration.yaml_reader import MAX_BYTES
from runtime.errors import DeclarationError
from tests.problems import expect_values, problems_in

MOST_MEMORY = 400 << 20
"""What a megabyte of small values takes while it is parsed: nodes with their marks."""


def aliases(levels: int, width: int) -> str:
    """A laugh of a billion."""
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines)


def below_long_keys() -> str:
    """A megabyte of nothing, 30 levels deep below keys as long as a path shows them."""
    start = "{" + ": {".join(f"{'k' * 63}{level % 10}" for level in range(29)) + ": ["
    return start + "0," * ((MAX_BYTES - len(start) - 80) // 2) + "]" + "}" * 29


SMALL = {
    "aliases of aliases": aliases(60, 40),
    "an alias within itself": "a: &a [*a]",
    "a mapping within itself": "a: &a {b: *a}",
    "an alias as a key": "&a x: 1\n*a : 2",
    "merged mappings": "a: &a {b: 1}\nc: {<<: *a, <<: [*a, *a]}",
    "an alias of nothing": "a: *b",
    "one anchor ten thousand times": "\n".join(f"k{n}: &a {n}" for n in range(10_000)),
    "brackets": "[" * 100_000,
    "braces": "{" * 100_000,
    "brackets that close": "[" * 5000 + "]" * 5000,
    "block sequences": "- " * 50_000,
    "nested blocks": "\n".join(" " * n + "a:" for n in range(1000)),
    "question marks": "? " * 50_000,
    "a python object": "a: !!python/object/apply:os.system [exit 1]",
    "a python name": "a: !!python/name:os.system",
    "a tag of a megabyte": f"a: !{'x' * 500_000} 1",
    "a binary": f"a: !!binary {'A' * 100_000}",
    "a set and an ordered map": "a: !!set {b, c}\nd: !!omap [e: 1]",
    "a number of a hundred thousand digits": "a: " + "1" * 100_000,
    "a float of a hundred thousand digits": "a: 0." + "1" * 100_000,
    "a sexagesimal of many parts": "a: 1" + ":00" * 30_000,
    "documents": "---\na: 1\n" * 10_000,
    "directives": "%YAML 1.2\n" * 1000 + "--- a",
    "a tag directive": "%TAG ! tag:yaml.org,2002:python/\n--- !object/apply:os.system [a]",
    "a folded scalar of blank lines": "a: >\n" + "\n" * 200_000 + "  b",
    "a quoted scalar that does not end": 'a: "' + "x" * 200_000,
    "escapes": 'a: "' + "\\u0041" * 50_000 + '"',
    "escapes beyond": 'a: "\\UFFFFFFFF"',
    "a key of a megabyte": f"? {'k' * 900_000}\n: [1, 2]",
    "a name of a megabyte": f"applications: [{{name: {'k' * 900_000}}}]",
    "an import path of a megabyte": f"applications: [{{name: a, import_path: deployments{'k' * 500_000}:b}}]",
    "many unknown keys": "\n".join(f"key_{n}_{'x' * 200}: 1" for n in range(3000)),
    "many unknown keys of a function": (
        "applications: [{name: a, args: {"
        + ", ".join(f"max_batch_size{'e' * (n % 50)}{n}: 1" for n in range(5000))
        + "}}]"
    ),
    "one key again and again": "a: 1\n" * 50_000,
    "many applications of one name": "applications:\n" + "- {name: a}\n" * 5000,
    "many stages": "applications: [{name: a, args: {graph: ["
    + "{stage: s, python: 'm:f', when: not not x}," * 5000
    + "]}}]",
    "a pattern that backtracks": f"applications: [{{name: a, args: {{onnx: 'hf:{'a/' * 50_000}'}}}}]",
    "versions that backtrack": f"applications: [{{name: a, args: {{onnx: 'pypi:{'a-' * 50_000}==1'}}}}]",
    "a route of slashes": f"applications: [{{name: a, route_prefix: '{'/' * 300_000}'}}]",
    "a condition": f"applications: [{{name: a, args: {{graph: [{{stage: s, python: 'm:f', when: '{'not ' * 50_000}x'}}]}}}}]",
    "a comment of a megabyte": "# " + "x" * 900_000 + "\na: 1",
    "nulls": "a: " + "\0" * 1000,
    "other ends of lines": "a: 1\x85b: 2\u2028",
    "half characters": 'a: "\\ud800"',
    "a byte order mark within": "a: 1\n\ufeffb: 2",
    "tabs": "\t" * 100_000,
}
"""Texts below a megabyte."""

LARGE = {
    "numbers below long keys": below_long_keys(),
    "commas": "a: [" + "," * (MAX_BYTES - 10) + "]",
    "small values": "a: [" + "1," * (MAX_BYTES // 2 - 10) + "]",
    "pairs": "a: {" + "".join(f"{n}: ," for n in range(110_000)) + "}",
}
"""As long as a file may be; each takes seconds."""


def read_text(folder: Path, text: str) -> int:
    """Reads a file; returns the most memory that it took."""
    file = folder / "serve_config.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    tracemalloc.start()
    try:
        with contextlib.suppress(DeclarationError):
            read(file)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.full  # the first of them, and what each refuses, in test_yaml_reader and the next test
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", [*SMALL, *LARGE])
def test_a_file_that_was_made_to_hurt_is_read_or_refused(name, tmp_path):
    """With memory that its size allows, and in less time than the test has."""
    assert read_text(tmp_path, {**SMALL, **LARGE}[name]) < MOST_MEMORY


@pytest.mark.slow
def test_small_values_take_memory_by_their_number(tmp_path):
    """A part of what a file may have, and of the memory."""
    values = "a: [" + "1," * (MAX_BYTES // 64) + "]"
    assert read_text(tmp_path, values) < MOST_MEMORY // 32


def test_aliases_make_nothing_of_a_small_file(tmp_path):
    """Those of aliases, and those within themselves."""
    for name in ("aliases of aliases", "an alias within itself", "a mapping within itself"):
        assert read_text(tmp_path, SMALL[name]) < 16 << 20


def test_no_more_paths_are_kept_than_there_is_room_for(tmp_path, monkeypatch):
    """The line of each value is kept by its path, which repeats all keys above it."""
    monkeypatch.setattr("runtime.declaration.yaml_reader.MAX_PATHS", 100_000)
    file = tmp_path / "serve_config.yaml"
    file.write_text("a:\n  " + "k" * 64 + ":\n" + "    - 1\n" * 5000)
    with pytest.raises(DeclarationError) as refused:
        read(file)
    (problem,) = problems_in(refused.value)
    assert problem.line > 1000
    expect_values(problem.message, "no more are read")
