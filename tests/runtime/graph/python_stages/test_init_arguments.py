"""The values of ``with`` that are files, at any depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pytest

from runtime.artifacts.version import stage_files
from runtime.declaration.function_spec import FunctionSpec
from runtime.graph.assembly import assemble
from runtime.graph.python_stages.init_arguments import (
    ArgumentError,
    argument_issue,
    to_annotated,
)
from runtime.graph.resolved_stages import ResolvedModel
from runtime.settings import Settings
from tests.problems import expect_values


@pytest.mark.parametrize(
    ("annotation", "value", "taken"),
    [
        (Path, "a", lambda root: root / "a"),
        (Annotated[Path, "x"], "a", lambda root: root / "a"),
        (Path | None, "a", lambda root: root / "a"),
        (Path | None, None, lambda root: None),
        (list[Path], ["a", "b"], lambda root: [root / "a", root / "b"]),
        (Sequence[Path], ["a"], lambda root: [root / "a"]),
        (tuple[Path, ...], ["a", "b"], lambda root: (root / "a", root / "b")),
        (tuple[Path, int], ["a", 3], lambda root: (root / "a", 3)),
        (list[Path] | None, ["a"], lambda root: [root / "a"]),
        (dict[str, Path], {"k": "a"}, lambda root: {"k": root / "a"}),
        (dict[str, list[Path]], {"k": ["a"]}, lambda root: {"k": [root / "a"]}),
        (Path | list[Path], ["a"], lambda root: [root / "a"]),
        (str | Path, "a", lambda root: root / "a"),
        (str | Path, "no file", lambda root: "no file"),
        (str, "a", lambda root: "a"),
        (Any, ["a"], lambda root: ["a"]),
        (None, "a", lambda root: "a"),
        (list[str], ["a"], lambda root: ["a"]),
    ],
)
def test_a_value_becomes_what_its_annotation_says(tmp_path, annotation, value, taken):
    """A text becomes a path where the annotation says so; other values stay as they are."""
    for name in "ab":
        (tmp_path / name).touch()
    assert to_annotated(value, value, annotation, tmp_path, "x") == taken(tmp_path)


@pytest.mark.parametrize(
    ("annotation", "value", "where", "values"),
    [
        (Path, "c", "x", ["'c'", "FOLDER"]),
        (Path, 3, "x", ["3"]),
        (Path, "a" * 5000, "x", ["…", "FOLDER"]),
        (Path, "vocabs.txt", "x", ["'vocabs.txt'", "'vocab.txt'?", "FOLDER"]),
        (Path | None, "c", "x", ["'c'", "FOLDER"]),
        (list[Path], ["a", "c"], "x[1]", ["'c'", "FOLDER"]),
        (dict[str, Path], {"k": "c"}, "x.k", ["'c'", "FOLDER"]),
    ],
)
def test_a_missing_file_is_named(tmp_path, annotation, value, where, values):
    """The message has its place in the value, near names, and the folder that was searched."""
    text = str(refused(tmp_path, annotation, value))
    assert text.startswith(f"'{where}': ")
    expect_values(text.replace(str(tmp_path), "FOLDER"), *values)


def refused(folder: Path, annotation: Any, value: Any) -> ArgumentError:
    """The error of a value for which the folder has no file."""
    for name in ("a", "vocab.txt"):
        (folder / name).touch()
    with pytest.raises(ArgumentError) as caught:
        to_annotated(value, value, annotation, folder, "x")
    return caught.value


class OfC(dict[str, int]):
    """Its ``__init__`` is a dict's, whose parameters Python cannot say."""

    def __call__(self, n: int) -> int:
        """Count."""
        return self.setdefault("n", n)


def test_a_class_of_a_class_of_c_is_a_stage():
    """Without arguments; `with` cannot be compared with anything."""
    settings = Settings.read({})

    def stage(**more: Any) -> FunctionSpec:
        declared = {"stage": "s", "python": f"{__name__}:OfC", **more}
        return FunctionSpec.from_args("f", "/f", {"graph": [declared]})

    def unused(path: Path) -> ResolvedModel:
        raise AssertionError(path)

    assert not assemble(stage(), settings, unused).issues
    (issue,) = assemble(stage(**{"with": {"n": 1}}), settings, unused).issues
    assert issue.key == "with"
    expect_values(issue.message, "OfC.__init__", "not written in Python")


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (int, "3", "'x': '3' is a string, an integer is wanted."),
        (int, 0.5, "'x': 0.5 is a number, an integer is wanted."),
        (int, None, "'x': nothing stands here, an integer is wanted."),
        (int | None, "3", "'x': '3' is a string, an integer is wanted."),
        (Annotated[float, "x"], "1e3", "'x': '1e3' is a string, a number is wanted."),
        (bool, "false", "'x': 'false' is a string, true or false is wanted."),
        (bool, 2, "'x': 2 is an integer, true or false is wanted."),
        (str, 1, "'x': 1 is an integer, a string is wanted. Put it in quotes."),
        (list[str], "a", "'x': 'a' is a string, a list is wanted. Write ['a']."),
        (list[str], ["a", 1], "'x[1]': 1 is an integer, a string is wanted. Put it in quotes."),
        (tuple[str, int], ["a", "b"], "'x[1]': 'b' is a string, an integer is wanted."),
        (dict[str, list[int]], {"k": ["a"]}, "'x.k[0]': 'a' is a string, an integer is wanted."),
        (dict, [], "'x': this is a list, a mapping is wanted."),
        (Literal["mean", "cls"], "max", "'x': 'max' is not one of 'mean', 'cls'."),
        (int | str, [], "'x': this is a list, an integer or a string is wanted."),
    ],
)
def test_a_value_of_another_kind_is_refused(annotation, value, message):
    """In words of the file; the stage would fail in its first call, or take 'false' for true."""
    assert argument_issue(value, annotation, "x") == message


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (float, 1),
        (int, 8.0),
        (int, True),
        (bool, 1),
        (int | None, None),
        (int | list[int], [1]),
        (Sequence[str], ["a"]),
        (tuple[int, ...], [1, 2]),
        (tuple[int, str], [1]),
        (set[str], []),
        (list, [1, "a"]),
        (Mapping[str, Any], {"k": [1]}),
        (Literal[1, 2], 2),
        (int, "${PORT}"),
        (Path | None, "a"),
        (Any, "a"),
        (None, "a"),
        (object, 1),
        (Decimal, "1.5"),
        ("int", "a"),
        (TypeVar("T"), "a"),
    ],
)
def test_a_value_that_a_stage_can_work_with_passes(annotation, value):
    """Also where the annotation says nothing that is known here."""
    assert argument_issue(value, annotation, "x") == ""


class Top:
    """A stage whose default is none of what it is annotated with, as many are written."""

    def __init__(self, top: int = 3, names: list[str] = None) -> None:  # noqa: RUF013
        self.top = top

    def __call__(self, text: str) -> str:
        """The first characters."""
        return text[: self.top]


def test_what_is_wrong_with_an_argument_stands_at_its_stage():
    """Before anything is loaded; null is what the parameter's own default is."""

    def issues(arguments):
        stage = {"stage": "top", "python": f"{__name__}:Top", "with": arguments}
        spec = FunctionSpec.from_args("f", "/f", {"graph": [stage]})
        return [
            (issue.key, issue.message) for issue in assemble(spec, Settings.read({}), None).issues
        ]

    wanted = "'top': '3' is a string, an integer is wanted."
    assert issues({"top": "3"}) == [("with", wanted)]
    assert issues({"top": 2, "names": None}) == []


def test_files_in_lists_and_mappings_belong_to_the_version(tmp_path):
    """They are part of what the function is made of."""
    for name in "abc":
        (tmp_path / name).touch()
    graph = [
        {
            "stage": "s",
            "python": "m:S",
            "with": {"one": "a", "more": ["b", {"k": ["c", "d"]}], "n": 3},
        }
    ]
    found = stage_files(FunctionSpec.from_args("f", "/f", {"graph": graph}), tmp_path)
    assert list(found) == [(name, tmp_path / name) for name in "abc"]
