"""Files in examples, as the fields take them, and what `check` says of those that they do not."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import pytest

from runtime.artifacts.python_imports import ImportScanner
from runtime.artifacts.version import FILES, content_digests
from runtime.declaration.config_file import read
from runtime.graph.description.interface_schemas import describe_interface
from runtime.graph.resolve import ResolvedConfig, examine
from runtime.settings import Settings
from runtime.system.files import file_state
from tests.problems import expect_values, place

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


@dataclass
class Page:
    """With bytes within."""

    scan: bytes
    title: str


class Options(TypedDict):
    """Of a call."""

    mask: NotRequired[bytes]
    steps: int


def look(
    image: bytes,
    text: str = "",
    pictures: list[bytes] | None = None,
    page: Page | None = None,
    options: Options | None = None,
    numbers: list[float] | None = None,
    anything: Any = None,
) -> int:
    """How many bytes came."""
    return len(image)


def declared(folder: Path, example: str, more: str = "") -> ResolvedConfig:
    """A function with that example, examined."""
    file = folder / "serve_config.yaml"
    file.write_text(
        "applications:\n  - name: look\n    args:\n"
        f'      graph: [{{stage: look, python: "{__name__}:look"}}]\n'
        f"      example: {example}\n{more}"
    )
    return examine(read(file), Settings(root=folder, models=folder / "models"))


def row_of(config: ResolvedConfig) -> Any:
    """The example as a stage gets it."""
    assert config.problems == ()
    example = config.assemblies["look"].example
    assert example is not None
    return example.fields()


@pytest.fixture
def folder(tmp_path):
    """With some files."""
    (tmp_path / "sample.png").write_bytes(PNG)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "text.txt").write_text("größer\n", encoding="utf-8")
    (tmp_path / "numbers.json").write_text("[1, 2.5]")
    (tmp_path / "request.json").write_text('{"image": "AAEC", "text": "a"}')
    return tmp_path


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        ("{image: !file sample.png}", {"image": PNG}),
        ("{image: !file ./sub/../sample.png}", {"image": PNG}),
        ("{image: AAEC}", {"image": b"\0\1\2"}),
        ("{image: !file sample.png, text: !file sub/text.txt}", {"text": "größer\n"}),
        (
            "{image: AAEC, pictures: [!file sample.png, AAEC, !file sample.png]}",
            {"pictures": [PNG, b"\0\1\2", PNG]},
        ),
        (
            "{image: AAEC, page: {scan: !file sample.png, title: !file sub/text.txt}}",
            {"page": Page(PNG, "größer\n")},
        ),
        (
            "{image: AAEC, options: {mask: !file sample.png, steps: 1}}",
            {"options": {"mask": PNG, "steps": 1}},
        ),
        ("{image: AAEC, numbers: !file numbers.json}", {"numbers": [1, 2.5]}),
        ("{image: AAEC, anything: !file numbers.json}", {"anything": [1, 2.5]}),
        ("!file request.json", {"image": b"\0\1\2", "text": "a"}),
        ('{image: {"!file": sample.png}}', {"image": PNG}),
    ],
)
def test_a_file_is_what_its_field_takes(folder, example, expected):
    """Bytes, a text, or JSON; at any depth."""
    row = row_of(declared(folder, example))
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("example", "key", "values"),
    [
        ("{image: !file sampel.png}", "example.image", ["sampel.png", "'sample.png'"]),
        ("{image: !file sub}", "example.image", ["a folder"]),
        ("{image: !file /etc/hostname}", "example.image", ["/etc/hostname", "outside"]),
        ("{image: !file ../sample.png}", "example.image", ["../sample.png", "outside"]),
        ("{image: !file link.png}", "example.image", ["link.png", "outside"]),
        ("{image: !file pipe}", "example.image", ["pipe"]),
        (
            "{image: AAEC, pictures: [AAEC, !file none.png]}",
            "example.pictures[1]",
            ["none.png"],
        ),
        (
            "{image: AAEC, page: {scan: AAEC, title: !file sample.png}}",
            "example.page.title",
            ["sample.png", "a PNG picture"],
        ),
        ("{image: AAEC, text: !file sample.png}", "example.text", ["a PNG picture"]),
        ("{image: AAEC, numbers: !file sub/text.txt}", "example.numbers", []),
        ("{image: AAEC, picture: !file sample.png}", "example.picture", ["pictures"]),
        ("{image: sample.png}", "example.image", ["!file sample.png"]),
        ('{image: {"!file": 3}}', "example.image", []),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_its_line(folder, example, key, values):
    """By `check`, before anything runs."""
    os.mkfifo(folder / "pipe")
    (folder / "link.png").symlink_to("/etc/hostname")
    (problem,) = declared(folder, example).problems
    assert place(problem) == f"5: applications[0].args.{key}"
    expect_values(problem.message, *values)


def test_files_are_bounded_by_what_a_call_may_send(folder):
    """All of an example together; what fits to the byte is taken."""
    two = "{image: !file sample.png, pictures: [!file sample.png]}"
    limit = "      limits: {max_body_bytes: %d}\n"
    assert declared(folder, two, limit % (2 * len(PNG))).problems == ()
    (problem,) = declared(folder, two, limit % (2 * len(PNG) - 1)).problems
    expect_values(problem.message, "limits.max_body_bytes", str(2 * len(PNG) - 1))


def test_a_file_is_part_of_the_version(folder):
    """Another content is another version; a file that is not there has none."""
    config = declared(folder, "{image: !file sample.png}")
    settings = Settings(root=folder, models=folder / "models")

    def version() -> str | None:
        return content_digests(config.functions[0], settings, ImportScanner()).get(FILES)

    before, state = version(), file_state(folder / "sample.png")
    (folder / "sample.png").write_bytes(PNG + b"\0")
    assert file_state(folder / "sample.png") != state
    assert before
    assert version() not in (before, None)
    (folder / "sample.png").unlink()
    assert version() is None


def test_what_is_shown_of_an_example_is_json(folder):
    """Bytes in base64; files that are too large are not shown."""
    config = declared(folder, "{image: !file sample.png}")
    shown = describe_interface(config.assemblies["look"])
    assert shown is not None
    assert shown["example"] == {"image": base64.b64encode(PNG).decode()}
    (folder / "sample.png").write_bytes(bytes(1 << 20))
    shown = describe_interface(config.assemblies["look"])
    assert shown is not None
    assert shown["example"] is None


def test_a_file_that_is_edited_later_changes_no_loaded_example(folder):
    """A look at whether a function still answers runs what it was loaded with."""
    config = declared(folder, "{image: !file sample.png}")
    example = config.assemblies["look"].example
    assert example is not None
    first, identity = example.fields(), example.identity
    (folder / "sample.png").unlink()
    assert example.is_readable()
    assert example.fields() == first
    again = config.assemblies["look"].example
    assert again is not None
    assert not again.is_readable()
    (folder / "sample.png").write_bytes(PNG + b"\0")
    later = config.assemblies["look"].example
    assert later is not None
    assert later.identity != identity
