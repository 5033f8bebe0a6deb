"""When an edit starts the next version, and what a version is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.local.watched_files import (
    changed_functions,
    function_digest,
    look_at,
    should_start,
    source_files,
)
from runtime.artifacts.python_imports import ImportScanner
from runtime.declaration.function_spec import FunctionSpec
from runtime.settings import Settings

A, B = Path("a"), Path("b")


@pytest.mark.parametrize(
    ("tried", "before", "now", "expected"),
    [
        ({A: (1, 1)}, {A: (1, 1)}, {A: (1, 1)}, False),
        ({A: (1, 1)}, {A: (1, 1)}, {A: (2, 2)}, False),  # it may be half written
        ({A: (1, 1)}, {A: (2, 2)}, {A: (2, 2)}, True),
        ({A: (1, 1)}, {A: None}, {A: None}, True),  # it is gone
        ({A: None}, {A: (1, 1)}, {A: (1, 1)}, True),  # it has come
        ({A: (1, 1)}, {A: (1, 1)}, {A: (1, 1), B: (3, 3)}, False),  # it matters since now
        ({A: (1, 1), B: (3, 3)}, {A: (2, 2), B: (3, 3)}, {A: (2, 2), B: (4, 4)}, False),
        ({A: ("a.py",)}, {A: ("a.py", "b.py")}, {A: ("a.py", "b.py")}, True),
    ],
)
def test_a_version_starts_once_an_edit_is_complete(tried, before, now, expected):
    """A look after the last change."""
    assert should_start(tried, before, now) is expected


@pytest.mark.parametrize(
    ("serving", "new", "expected"),
    [
        ({}, {"a": "1"}, {"a"}),
        ({"a": "1", "b": "1"}, {"a": "1", "b": "2"}, {"b"}),
        ({"a": "1", "b": "1"}, {"a": "1"}, set()),
    ],
)
def test_the_functions_that_must_load_are_those_that_changed(serving, new, expected):
    """One that is gone is none of them."""
    assert changed_functions(serving, new) == expected


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Two modules and a file of a stage's; imports nothing."""
    (tmp_path / "watched_of_a_test.py").write_text("import words_of_a_watch\n")
    (tmp_path / "words_of_a_watch.py").write_text("")
    (tmp_path / "words.txt").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def spec(**args):
    """A function with a Python stage and a model that is not there."""
    graph = [
        {"stage": "s", "python": "watched_of_a_test:F", "with": {"words": "words.txt"}},
        {"stage": "m", "onnx": "gone.onnx"},
    ]
    return FunctionSpec.from_args("f", "/f", {"graph": graph, **args})


def test_a_function_is_made_of_its_modules_models_and_files(project):
    """A model that is not there is one of them, since it may come."""
    settings = Settings.read({"WAKEFUL_ROOT": str(project)})
    (project / "gone.onnx.data").touch()
    assert {path.name for path in source_files(spec(), settings, ImportScanner())} == {
        "watched_of_a_test.py",
        "words_of_a_watch.py",
        "words.txt",
        "gone.onnx",
        "gone.onnx.data",
    }


def test_a_model_at_an_address_comes_by_a_pull(project):
    """Which writes the lock, then or before, and puts the file where the lock says."""
    settings = Settings.read({"WAKEFUL_ROOT": str(project)})
    located = FunctionSpec.from_args("f", "/f", {"onnx": "s3://bucket/m.onnx"})

    def files() -> set[str]:
        found = source_files(located, settings, ImportScanner())
        return {path.relative_to(project).as_posix() for path in found}

    assert files() == {"models.lock"}
    sha256 = "0" * 64
    lock = f'[files."s3://bucket/m.onnx"]\nsha256 = "{sha256}"\nbytes = 1\n'
    (project / "models.lock").write_text(lock)
    assert files() == {"models.lock", f"models/.fetched/{sha256}/m.onnx"}
    (project / "models.lock").write_text("no lock")
    assert files() == {"models.lock"}


def test_a_change_of_any_of_them_is_another_digest(project):
    """And one of the declaration, such as its example."""
    settings = Settings.read({"WAKEFUL_ROOT": str(project)})

    def digest(**args: object) -> str:
        made = spec(**args)
        return function_digest(made, source_files(made, settings, ImportScanner()))

    seen = [digest(), digest(example={"words": "a"})]
    (project / "words_of_a_watch.py").write_text("A = 1\n")
    seen.append(digest())
    (project / "words.txt").write_text("a")
    seen.append(digest())
    assert len(set(seen)) == len(seen)
    assert digest() == seen[-1]


def test_a_folder_is_the_modules_and_packages_in_it(project):
    """Not what editors and Python leave there."""
    before = look_at([project])
    (project / ".watched_of_a_test.py.swp").touch()
    (project / "__pycache__").mkdir()
    assert look_at([project]) == before
    (project / "more").mkdir()
    assert look_at([project]) != before
