"""The values of ``with`` that are files, at any depth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pytest

from runtime.artifacts.version import stage_files
from runtime.declaration.function_spec import FunctionSpec
from runtime.graph.assembly import assemble
from runtime.graph.resolved_stages import ArgumentError, ResolvedModel, to_annotated
from runtime.settings import Settings


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
    ("annotation", "value", "message"),
    [
        (Path, "c", "'x': there is no file 'c'. Relative"),
        (Path, 3, "'x': a path is text; 3 is none."),
        (Path, "a" * 5000, "'x': there is no file 'aaa"),
        (Path | None, "c", "'x': there is no file 'c'. Relative"),
        (list[Path], ["a", "c"], "'x[1]': there is no file 'c'. Relative"),
        (dict[str, Path], {"k": "c"}, "'x.k': there is no file 'c'. Relative"),
    ],
)
def test_a_missing_file_is_named(tmp_path, annotation, value, message):
    """The message has its place in the value, and the folder that was searched."""
    (tmp_path / "a").touch()
    with pytest.raises(ArgumentError) as caught:
        to_annotated(value, value, annotation, tmp_path, "x")
    assert str(caught.value).startswith(message)


def test_a_missing_file_has_near_names(tmp_path):
    """Of its own folder, and where relative paths start."""
    (tmp_path / "vocab.txt").touch()
    with pytest.raises(ArgumentError) as caught:
        to_annotated("vocabs.txt", "vocabs.txt", Path, tmp_path, "x")
    assert str(caught.value).startswith(
        f"'x': there is no file 'vocabs.txt', did you mean 'vocab.txt'? Relative paths start at {tmp_path}:"
    )


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
    assert (issue.key, issue.message) == (
        "with",
        "what OfC.__init__ takes cannot be read: it is not written in Python. Write one in the"
        " class.",
    )


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
