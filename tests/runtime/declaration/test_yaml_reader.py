from __future__ import annotations

import contextlib
import math
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from runtime.declaration.yaml_reader import MAX_PROBLEMS, parse, read
from runtime.errors import DeclarationError, Problem
from tests.problems import expect_values, place, places, problems_in


def refused(text: str) -> tuple[Problem, ...]:
    """Why reading this text ends."""
    with pytest.raises(DeclarationError) as caught:
        parse(text, "f.yaml")
    return problems_in(caught.value)


def refused_file(folder: Path, content: bytes) -> tuple[Problem, ...]:
    """Why a file of this content is not read."""
    file = folder / "f.yaml"
    file.write_bytes(content)
    with pytest.raises(DeclarationError) as caught:
        read(file)
    assert {problem.file for problem in caught.value.problems} == {str(file)}
    return problems_in(caught.value)


def test_every_key_knows_its_line() -> None:
    """A place that is not in the file has the line of the nearest one around it."""
    document = parse("a:\n  b: 1\n  c:\n    - x\n    - {d: 2,\n       e: 3}\n'f.g': 1\n", "f.yaml")
    assert document.data == {"a": {"b": 1, "c": ["x", {"d": 2, "e": 3}]}, "f.g": 1}
    places = {
        "a": 1,
        "a.b": 2,
        "a.c": 3,
        "a.c[0]": 4,
        "a.c[1]": 5,
        "a.c[1].d": 5,
        "a.c[1].e": 6,
        "['f.g']": 7,
    }
    assert dict(document.lines) == places
    assert document.line("a.c[1].e.x[3].y") == 6
    assert document.line("a.c[7]") == 3
    assert document.line("z.z") == 1


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (
            "a: !!python/object/apply:os.system ['true']",
            "1: a",
        ),
        ("a: &x 1", "1: a"),
        ("a: !!int x", "1: a"),
        (
            "a: 1\nb: 2\na: 3",
            "3: a",
        ),
        (
            "a: {b: 1,\n  b: 2}",
            "2: a.b",
        ),
        ("a: {{b}}", "1: a"),
        ("a: {1: x}", "1: a.1"),
        (
            'a: "\\ud800"',
            "1: a",
        ),
        (
            "x:\n  on: 1",
            "2: x.on",
        ),
    ],
)
def test_values_that_json_cannot_express_are_refused(text: str, where: str) -> None:
    """Each is a problem with its line, and reading goes on."""
    assert places(parse(text, "f.yaml").problems) == [where]


@pytest.mark.parametrize(
    "value",
    [
        "!!map x",
        "!!map ''",
        "!!map [1]",
        "!!seq x",
        "!!seq {b: 1}",
        "!!str {b: 1}",
        "!!bool [1]",
        "!!int [1]",
        "!!null x",
        "!!null '0'",
        "!!null {}",
        "!!bool x",
        "!!int ''",
        "!!int '010'",
        "!!int '1:30'",
        "!!float '1e5'",
        "!!float '.'",
        '!!int "' + "9" * 19 + '"',
        '!!int "' + "9" * 5000 + '"',
        '!!float "' + "9" * 400 + '"',
    ],
)
def test_a_tag_that_fits_no_value_is_refused(value: str) -> None:
    """Neither taken for an empty value nor for what it is without the tag; a number in quotes is one
    of both versions of YAML, too.
    """
    document = parse(f"b: 1\na: {value}", "f.yaml")
    assert places(document.problems) == ["2: a"]
    assert len(document.problems[0].message) < 200


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ("!!map {b: 1}", {"b": 1}),
        ("!!seq [1]", [1]),
        ("!!null ''", None),
        ("!!null ~", None),
        ("!!int '3'", 3),
        ("!!float 2", 2.0),
        ("!!str 3", "3"),
        ("!!bool true", True),
    ],
)
def test_a_tag_that_fits_its_value_is_read(value: str, data: object) -> None:
    """As the other version of YAML reads it."""
    document = parse(f"a: {value}", "f.yaml")
    assert document.problems == ()
    assert document.data == {"a": data} == yaml.safe_load(f"a: {value}")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("%YAML 1.1\n---\na: !!float '1e5'\nb: !!int '010'", 1),
        ("%YAML 1.3\n---\na: 1", 1),
        ("%YAML 1.10\n---\na: 1", 1),
        ("%YAML 1.20\n---\na: 1", 1),
        ("%YAML 2.0\n---\na: 1", 1),
        ("%YAML 1." + "9" * 5000 + "\n---\na: 1", 1),
        ("%YAML " + "9" * 5000 + ".2\n---\na: 1", 1),
        ("%YAML x\n---\na: 1", 1),
        ("a: 1\n...\n%YAML 1.3\n", 3),
        ("a: 1\n...\n%YAML 1.3\n---\nb: 1", 3),
        ("\n# a\n\t\n%FOO 1\n%TAG !e! tag:e\r\n%YAML\t1.0\n---\na: 1", 6),
    ],
)
def test_another_version_of_yaml_is_refused(text: str, line: int) -> None:
    """Where it is asked for; a number would be another one by it."""
    (problem,) = refused(text)
    assert (problem.line, problem.key) == (line, "")
    expect_values(problem.message, "%YAML", "1.2")
    assert len(problem.message) < 200


def test_a_quoted_word_that_a_tag_makes_a_number_is_told_to_lose_its_tag() -> None:
    """It has its quotes already."""
    (problem,) = parse("a: !!int '010'", "f.yaml").problems
    expect_values(problem.message, "'010'", "tag")
    assert "quotes" not in problem.message


@pytest.mark.parametrize(
    "text",
    [
        "%YAML 1.2\n---\na: 1",
        "# a\n%YAML 1.2\r\n---\na: 1",
        "a: 1\n# %YAML 1.3",
        "a: |\n %YAML 1.3",
    ],
)
def test_this_version_of_yaml_may_be_asked_for(text: str) -> None:
    """And another one may stand in a text."""
    assert parse(text, "f.yaml").problems == ()


def test_lines_before_a_file_begins_take_no_time() -> None:
    """Where a version may be asked for; each of them ends in two ways."""
    refused("\r\n" * 300_000 + "%YAML 1.1")
    assert parse("\r\n" * 100_000 + "a: 1", "f.yaml").data == {"a": 1}


@given(
    st.lists(
        st.sampled_from(
            [
                *("%YAML", "%TAG", "%FOO", " ", "\t", "1.1", "1.2", "1.3", "2.0", "!", "!!", "!e!"),
                *("tag:yaml.org,2002:", "\n", "\r\n", "\n---\n", "#", "...", "a: ", "- ", "{", "}"),
                *("[", "]", ",", "'", '"', "!!int ", "!!float ", "!!null ", "!!map ", "!!seq "),
                *("!!bool ", "!!str ", "x", "1", "010", "1e5", "9" * 20, "~", "|\n "),
            ]
        ),
        max_size=14,
    ).map("".join)
)
def test_directives_and_tags_end_in_words(text: str) -> None:
    """Whatever is put together of them is read, or refused with its line; nothing is warned of."""
    try:
        document = parse(text, "f.yaml")
    except DeclarationError as error:
        problems = error.problems
    else:
        problems = document.problems
    assert all(problem.line for problem in problems)


@pytest.mark.parametrize(
    "text",
    [
        "a: When is payday?",
        "a: {b: 'x?'}",
        "a: {b: http://x/y:z}",
        "a: x # 1\t2\nb: 'c\td'",
        "a: {b: [x y]}",
    ],
)
def test_texts_that_both_yaml_versions_read_alike_are_accepted(text: str) -> None:
    """And is the same to both."""
    document = parse(text, "f.yaml")
    assert (document.data, document.problems) == (yaml.safe_load(text), ())


EXAMPLE = "applications:\n- args:\n    example: "


@pytest.mark.parametrize(
    ("text", "example"),
    [
        ("{image: !file sample.png}", {"image": {"!file": "sample.png"}}),
        ("\n      image: !file my samples/a.png", {"image": {"!file": "my samples/a.png"}}),
        ("{a: [!file 'b, c.png', {d: !file e}]}", None),
        ("!file request.json", {"!file": "request.json"}),
        ("{image: !file no}", {"image": {"!file": "no"}}),
        ('{image: {"!file": sample.png}}', {"image": {"!file": "sample.png"}}),
    ],
)
def test_a_file_stands_in_an_example(text: str, example: object) -> None:
    """As plain data, which YAML readers without the tag take as well."""
    document = parse(EXAMPLE + text, "f.yaml")
    found = document.data["applications"][0]["args"]["example"]
    assert document.problems == ()
    assert found == (example or {"a": [{"!file": "b, c.png"}, {"d": {"!file": "e"}}]})


@pytest.mark.parametrize(
    ("text", "where", "values"),
    [
        ("a: !file x.png", "1: a", ["!file", "example"]),
        ("applications:\n- args: {examples: !file x}", "2: applications[0].args.examples", []),
        ("applications:\n- args: {graph: [!file x]}", "2: applications[0].args.graph[0]", []),
        (EXAMPLE + "{a: !file }", "3: applications[0].args.example.a", ["!file sample.png"]),
        (EXAMPLE + "{a: !file [x]}", "3: applications[0].args.example.a", ["!file sample.png"]),
        (EXAMPLE + "{a: !file &b x}", "3: applications[0].args.example.a", ["anchors"]),
        (EXAMPLE + "{a: !files x}", "3: applications[0].args.example.a", ["!files"]),
        ("!file x: 1", "1: x", ["!file"]),
    ],
)
def test_a_file_stands_nowhere_else(text: str, where: str, values: list[str]) -> None:
    """With the line, and what to write."""
    (problem,) = parse(text, "f.yaml").problems
    assert place(problem) == where
    expect_values(problem.message, *values)


def test_aliases_are_not_followed() -> None:
    """A bomb of aliases stays as small as it is written; nothing holds itself."""
    bomb = "a: &a [x]\n" + "".join(
        f"{key}: &{key} [*{before},*{before},*{before}]\n"
        for before, key in zip("abcdefgh", "bcdefghi", strict=True)
    )
    document = parse(bomb + "j: [*i, 1]\n", "f.yaml")
    assert document.data == {"a": ["x"], **dict.fromkeys("bcdefghi", [None] * 3), "j": [None, 1]}
    assert place(document.problems[1]) == "2: b"
    itself = parse("a: &a [*a]\nb:\n  c: *a\nd: &d yes\ne: *d", "f.yaml")
    assert itself.data == {"a": [None], "b": {"c": None}, "d": "yes", "e": "yes"}
    assert [problem.line for problem in itself.problems] == [1, 1, 3, 4, 5]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("a:\n\tb: 1", "2"),
        (
            "a: [1\nb: 2",
            "2",
        ),
        ("a: b: c", "1"),
        ('b: x\na: "\\U99999999"', "2"),
        (
            "---\na: 1\n---\nb: 1",
            "3",
        ),
        ("[" * 300, "1"),
        ("- " * 5000, "1"),
        ("a: *b", "1"),
    ],
)
def test_text_that_is_no_yaml_ends_the_reading(text: str, where: str) -> None:
    """With the line and the column."""
    assert places(refused(text)) == [where]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"a: b\nc: \x00", 2),
        (b"a: b\nc: \x1b[31m", 2),
        (b"a: b\nc: \xff", 2),
        (b"a: b\n" + b"#" * (1 << 20), 0),
    ],
)
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, content: bytes, line: int) -> None:
    """Before any of it is parsed."""
    assert places(refused_file(tmp_path, content)) == [str(line)]


def test_a_file_that_cannot_be_read_is_a_declaration_error(tmp_path: Path) -> None:
    """A missing file and a folder, under the name that was given."""
    for path, why in (
        (tmp_path / "none.yaml", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(DeclarationError) as caught:
            read(path)
        (problem,) = problems_in(caught.value)
        assert (problem.file, place(problem)) == (str(path), "0")
        expect_values(problem.message, why)


def test_what_was_meant_by_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A folder stands for the file in it; where there is none yet, one is written."""
    file = tmp_path / "serve_config.yaml"
    with pytest.raises(DeclarationError, match="`wakeful new NAME`"):
        read(file)
    file.touch()
    with pytest.raises(DeclarationError, match=rf"'{re.escape(str(file))}'\?"):
        read(tmp_path)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    """As some editors write it."""
    file = tmp_path / "f.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read(file).data == {"a": 1}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("FALSE", False),
        ("0", 0),
        ("-12", -12),
        ("0x1F", 31),
        ("1.5", 1.5),
        ("-1.5e+3", -1500.0),
        (".5", 0.5),
        (".inf", math.inf),
        ("nope", "nope"),
        ("y", "y"),
        (".", "."),
        ("1.2.3", "1.2.3"),
        ("127.0.0.1", "127.0.0.1"),
        ("apps.embed:answer", "apps.embed:answer"),
        ("$HOME/x", "$HOME/x"),
    ],
)
def test_a_plain_word_has_its_yaml_1_2_meaning(word: str, value: object) -> None:
    """As a plain Python value, and the same to both versions."""
    document = parse(f"- {word}", "f.yaml")
    assert (document.data, document.problems) == ([value], ()) == (yaml.safe_load(f"- {word}"), ())
    assert type(document.data[0]) is type(value)


@pytest.mark.parametrize(
    "word",
    [
        "no",
        "On",
        "012",
        "0o14",
        "1e3",
        "1e-3",
        "-.5",
        "1:30",
        "2024-01-02",
        "<<",
    ],
)
def test_a_word_with_two_meanings_is_refused(word: str) -> None:
    """Where YAML 1.1 and 1.2 disagree, the message says what to write."""
    assert places(parse(f"a:\n- {word}", "f.yaml").problems) == ["2: a[0]"]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("a: {t: When is payday?}", "1: a.t"),
        ("a: {t: what? now}", "1: a.t"),
        ("a: {b: [x,\n a?b]}", "2: a.b[1]"),
        ("a: {t?: 1}", "1: a['t?']"),
        ("a: [:b]", "1: a[0]"),
        ("a: [b:]", "1: a[0]"),
        ("a: {t: b:}", "1: a.t"),
    ],
)
def test_a_word_that_yaml_1_1_does_not_read_in_flow_style_is_refused(text: str, where: str) -> None:
    """PyYAML stops there, or reads another thing; in quotes, or in block style, both read it."""
    with contextlib.suppress(yaml.YAMLError):
        assert yaml.safe_load(text) != parse(text, "f.yaml").data
    assert places(parse(text, "f.yaml").problems) == [where]


@pytest.mark.parametrize(
    "text",
    [
        "a: When is payday?",
        "- What? Now\n- a:b",
        'a: {t: "When is payday?"}',
        "a: {t: 'b:', u: [':c']}",
        "a: {t: b:c, u: http://x/y}",
    ],
)
def test_a_question_in_quotes_or_in_block_style_is_read(text: str) -> None:
    """As PyYAML reads it."""
    document = parse(text, "f.yaml")
    assert (document.data, document.problems) == (yaml.safe_load(text), ())


@pytest.mark.parametrize("end", ["\x85", "\u2028", "\u2029"])
def test_a_line_that_only_yaml_1_1_ends_is_refused(end: str) -> None:
    """Even in a comment: what is behind it is none to PyYAML."""
    assert refused(f"a: 1\nb: 2 # {end}c: 3\n")[0].line == 2


def test_a_number_too_long_for_64_bits_is_refused() -> None:
    """No number of the file overflows where it is used."""
    (problem,) = parse("a: " + "1" * 5000, "f.yaml").problems
    expect_values(problem.message, "18 digits")


@given(
    st.lists(
        st.sampled_from(
            [
                *"0129.:+-_eEx",
                "no",
                "on",
                "true",
                "~",
                "null",
                ".inf",
                ".nan",
                "=",
                "2024",
                "-01-02",
                "T",
            ]
        ),
        max_size=5,
    )
)
def test_accepted_text_means_the_same_to_yaml_1_1(parts: list[str]) -> None:
    """PyYAML, with which Ray reads the file, agrees with every word that is not refused."""
    text = f"- {''.join(parts)}"
    try:
        document, theirs = parse(text, "f.yaml"), yaml.safe_load(text)
    except (DeclarationError, yaml.YAMLError, ValueError):
        return
    if not document.problems:
        assert repr(document.data) == repr(theirs)


def test_a_file_of_nothing_but_problems_is_read_to_the_thousandth() -> None:
    """The rest would take memory, and be read by no one."""
    text = "\n".join(f"- &a{number} x" for number in range(2 * MAX_PROBLEMS))
    assert len(refused(text)) == MAX_PROBLEMS
