"""Pages that are followed to the letter: the tutorial, development and the recipes."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest

from tests.walkthrough import lines, walking

DOCS = Path(__file__).parent.parent / "docs"
RECIPES = [
    section
    for section in re.split(
        r"^## ", (DOCS / "recipes.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )[1:]
    if "*Run by a test" in section
]


@pytest.fixture
def state():
    """A folder with a short name: sockets lie in it."""
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as short:
        yield Path(short)


@pytest.mark.slow
def test_the_tutorial(tmp_path, state):
    """From `wakeful new` to an own function with an own model, in at most 25 written lines."""
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\d)\. ", text, re.MULTILINE) == list("1234567")
    with walking(tmp_path, state) as walk:
        walk.follow(text)
    assert set(walk.written) == {"train.py", "wine.py", "serve_config.yaml", "test_wine.py"}
    written = sum(
        line not in lines(walk.replaced.get(name, ""))
        for name, content in walk.written.items()
        for line in lines(content)
    )
    assert written <= 25


@pytest.mark.slow
def test_the_page_of_development(tmp_path, state):
    """A new function, served with its edits, found by the other commands."""
    with walking(tmp_path, state) as walk:
        walk.follow((DOCS / "development.md").read_text(encoding="utf-8"))
    assert walk.server is not None


@pytest.mark.slow
def test_the_page_of_calls(tmp_path, state):
    """Functions that call others are called, and a stage is tested with a plain function."""
    with walking(tmp_path, state) as walk:
        walk.follow((DOCS / "calls.md").read_text(encoding="utf-8"))
    assert set(walk.written) == {"answers.py", "serve_config.yaml", "test_answers.py"}


@pytest.mark.full
def test_the_page_of_load_tests(tmp_path, state):
    """The function that it shows is served, loaded and passes."""
    with walking(tmp_path, state) as walk:
        walk.follow((DOCS / "loadtest.md").read_text(encoding="utf-8"))
    assert set(walk.written) == {"hello.py", "serve_config.yaml", "locustfile.py"}


@pytest.mark.full
@pytest.mark.parametrize("section", RECIPES, ids=lambda section: section.partition("\n")[0])
def test_a_recipe(tmp_path, state, section):
    """Its model is made, or is one of the repository's; its file passes `check`, and its call is
    answered as it says.
    """
    if "`models/`" in section:
        (tmp_path / "models").symlink_to(DOCS.parent / "models")
    with walking(tmp_path, state) as walk:
        walk.follow(section)
    assert walk.server is not None


def test_recipes_say_whether_they_are_run():
    """Each one that has Python."""
    text = (DOCS / "recipes.md").read_text(encoding="utf-8")
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        assert re.search(r"\*Run by a test|\*[Nn]ot run by a test|not run by a test", section), (
            section[:40]
        )
    assert len(RECIPES) == 5
