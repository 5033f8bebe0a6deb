from __future__ import annotations

from pathlib import Path

import pytest

from runtime.declaration.yamlfile import Document, parse, read
from runtime.errors import DeclarationError


def said(document: Document) -> list[str]:
    return [str(problem) for problem in document.problems]


def test_every_key_knows_its_line() -> None:
    """A place that is not in the file has the line of the nearest one around it."""
    document = parse("a:\n  b: 1\n  c:\n    - x\n    - {d: 2,\n       e: 3}\n'f.g': 1\n", "f.yaml")
    assert document.data == {"a": {"b": 1, "c": ["x", {"d": 2, "e": 3}]}, "f.g": 1}
    places = {"a": 1, "a.b": 2, "a.c": 3, "a.c[0]": 4, "a.c[1]": 5, "a.c[1].d": 5, "a.c[1].e": 6, "['f.g']": 7}
    assert dict(document.lines) == places
    assert document.line("a.c[1].e.x[3].y") == 6
    assert document.line("a.c[7]") == 3
    assert document.line("z.z") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a: !!python/object/apply:os.system ['true']",
            "f.yaml:1: a: tags ('!!python/object/apply:os.system') are not read. Delete it.",
        ),
        ("a: &x 1", "f.yaml:1: a: anchors ('x') are not read. Delete it."),
        ("a: 1\nb: 2\na: 3", "f.yaml:3: a: this key already stands on line 1. Delete one of the two."),
        ("a: {b: 1,\n  b: 2}", "f.yaml:2: a.b: this key already stands on line 1. Delete one of the two."),
        ("a: {{b}}", "f.yaml:1: a[\"{'b': None}\"]: keys are strings. Put it in quotes."),
        ("a: {1: x}", "f.yaml:1: a.1: keys are strings. Put it in quotes."),
        ("---\na: 1\n---\nb: 1", "f.yaml:3: a second document starts here; a file holds one. Delete the line."),
        ("%YAML 1.1\n---\na: 1", "f.yaml:2: directives (%YAML, %TAG) are not read. Delete them."),
        ('a: "\\ud800"', "f.yaml:1: a: '\\ud800' holds half a character (a lone surrogate). Write the character itself."),
        (
            "x:\n  on: 1",
            "f.yaml:2: x.on: 'on' means one thing to YAML 1.1, which `serve deploy` reads, and another to YAML 1.2. "
            "Write true or false, or put it in quotes.",
        ),
    ],
)
def test_what_json_cannot_say_is_refused(text: str, message: str) -> None:
    """Each is a problem with its line, and reading goes on."""
    assert said(parse(text, "f.yaml")) == [message]


def test_aliases_are_counted_not_followed() -> None:
    """A bomb of aliases stays as small as it is written."""
    bomb = "a: &a [x]\n" + "".join(
        f"{key}: &{key} [*{before},*{before},*{before}]\n" for before, key in zip("abcdefgh", "bcdefghi", strict=True)
    )
    document = parse(bomb, "f.yaml")
    assert document.data["i"] == [None, None, None]
    assert said(document)[1:3] == [
        "f.yaml:2: b: anchors ('b') are not read. Delete it.",
        "f.yaml:2: b[0]: aliases ('a') are not read. Write the value out.",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:\n\tb: 1", "f.yaml:2: not YAML: a tab at column 1. Indent with spaces."),
        (
            "a: [1\nb: 2",
            "f.yaml:2: not YAML: expected ',' or ']', but got ':' at column 2, while parsing a flow sequence that starts on line 1.",
        ),
        ("a: b: c", "f.yaml:1: not YAML: mapping values are not allowed here at column 5."),
        ('a: "\\U99999999"', "f.yaml:1: not YAML: Python int too large to convert to C int."),
        ("[" * 5000, "f.yaml:1: nested deeper than 32 levels, the most that is read."),
        ("- " * 5000, "f.yaml:1: nested deeper than 32 levels, the most that is read."),
        pytest.param(
            "[" + "1," * 140000 + "]", "f.yaml:1: more than 131072 keys and values, the most that is read.", marks=pytest.mark.slow
        ),
        (
            "a: 1\na: 2\nb: [",
            "f.yaml:2: a: this key already stands on line 1. Delete one of the two.\nf.yaml:3: not YAML: expected the node content",
        ),
    ],
)
def test_what_is_no_yaml_ends_the_reading(text: str, message: str) -> None:
    """What was found before the end is said too."""
    with pytest.raises(DeclarationError) as caught:
        parse(text, "f.yaml")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: b\nc: \x00", ":2: character U+0000 does not belong in YAML. Delete it."),
        (b"a: b\nc: \x1b[31m", ":2: character U+001B does not belong in YAML. Delete it."),
        (b"a: b\nc: \xff", ":2: byte 0xff is not UTF-8."),
        (b"a: b\n" + b"#" * (1 << 20), ":0: larger than 1 MiB, the most that is read."),
    ],
)
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """Before any of it is parsed."""
    file = tmp_path / "f.yaml"
    file.write_bytes(content)
    with pytest.raises(DeclarationError) as caught:
        read(file)
    assert str(caught.value) == f"{file}{message}"


def test_a_file_that_cannot_be_read_is_a_declaration_error(tmp_path: Path) -> None:
    """A missing file and a folder, under the name that was given."""
    for path, why in ((tmp_path / "none.yaml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(DeclarationError) as caught:
            read(path)
        assert str(caught.value) == f"{path}:0: cannot be read: {why}."


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    """As some editors write it."""
    file = tmp_path / "f.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read(file).data == {"a": 1}
