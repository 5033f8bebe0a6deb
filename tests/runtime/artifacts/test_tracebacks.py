"""The message of an exception, and its place in the project's files."""

from __future__ import annotations

import json
import sys

import pytest

from runtime.artifacts import tracebacks
from runtime.errors import LoadError
from runtime.graph.python_stages.signature import read_signature
from runtime.graph.resolved_stages import ResolvedPython

HERE = "tests/runtime/artifacts/test_tracebacks.py"


def fails() -> None:
    """In a library, called from here."""
    json.loads("{")


def caught() -> Exception:
    """The error."""
    try:
        fails()
    except ValueError as error:
        return error
    raise AssertionError("it fails")


def test_the_line_is_the_projects():
    """Not a line of the library that raised, and not one of Wakeful's."""
    line = fails.__code__.co_firstlineno + 2
    assert tracebacks.error_place(caught()) == f"{HERE}:{line}, in fails"
    assert tracebacks.error_message(caught()).startswith("json.decoder.JSONDecodeError: Expecting")
    assert tracebacks.error_message(caught()).endswith(f"({HERE}:{line}, in fails)")


def test_notes_are_hidden_and_go_on():
    """From one error to the next, secrets left out."""
    found = LoadError("it failed.")
    tracebacks.add_note(found, ValueError("key is abc"), lambda text: text.replace("abc", "***"))
    again = tracebacks.with_notes(LoadError("more."), found)
    assert tracebacks.notes_of(again) == "\n  ValueError: key is ***"
    assert tracebacks.error_place(ValueError("raised nowhere")) == ""


def test_the_frames_nearest_the_fault_are_shown():
    """Eight, however deep it is: a recursion has a thousand, and each is a line of the log."""

    def dive(depth: int) -> None:
        if depth:
            dive(depth - 1)
        raise KeyError(depth)

    found = LoadError("it failed.")
    with pytest.raises(KeyError) as raised:
        dive(50)
    frames = tracebacks.own_frames(raised.value)
    assert (len(frames), frames[-1].line) == (tracebacks.MOST_FRAMES, "raise KeyError(depth)")
    tracebacks.add_note(found, raised.value)
    assert len(found.__notes__) == 1 + tracebacks.MOST_FRAMES


def test_files_of_the_project_are_recognised():
    """Neither Python's files, nor Wakeful's, nor code that was typed in."""
    assert tracebacks.is_project_file(__file__)
    assert not any(
        map(tracebacks.is_project_file, (json.__file__, tracebacks.__file__, "<string>"))
    )


def test_a_slip_of_the_pen_is_offered_what_is_installed():
    """And nothing to install: anyone may have published a package of that name."""
    lacks = ModuleNotFoundError("No module named 'nunpy'", name="nunpy")
    message = tracebacks.import_failure_message("stages:Read", lacks)
    assert message.endswith(" Did you mean 'numpy'?")
    unlike = ModuleNotFoundError("No module named 'qqqqzzzz'", name="qqqqzzzz")
    assert "pip" not in tracebacks.import_failure_message("stages:Read", unlike)


def test_a_module_below_src_is_found_there(tmp_path, monkeypatch):
    """Where Python does not look, and what makes it look there."""
    (tmp_path / "src" / "flowers_of_a_test").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    lacks = ModuleNotFoundError("No module named 'flowers_of_a_test'", name="flowers_of_a_test")
    message = tracebacks.import_failure_message("flowers_of_a_test.stages:f", lacks)
    assert f"WAKEFUL_ROOT={tmp_path / 'src'}" in message
    assert "`pip install -e .`" in message


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("PIL", "pip install pillow"),
        ("tokenizers.models", "pip install tokenizers"),
        ("sklearn", "pip install scikit-learn"),
        ("transformers", "pip install transformers"),
        ("sentence_transformers.models", "pip install sentence-transformers"),
        ("cv2", "pip install opencv-python-headless"),
        ("yaml", "pip install pyyaml"),
        ("bs4", "pip install beautifulsoup4"),
        ("google.protobuf", "pip install protobuf"),
        ("ray", "pip install 'wakeful[ray]'"),
    ],
)
def test_a_stage_that_lacks_a_package_is_told_how_to_install_it(module, line):
    """Whether its module imports it, or its ``__init__``."""
    lacks = ModuleNotFoundError(f"No module named {module!r}", name=module)
    assert tracebacks.import_failure_message("stages:Read", lacks).endswith(f" {line}")

    class Read:
        def __init__(self) -> None:
            raise lacks

        def __call__(self, text: str) -> str:
            return text

    with pytest.raises(LoadError) as refused:
        ResolvedPython(Read, read_signature(Read), {}).build()
    assert refused.value.message.endswith(f" {line}")
