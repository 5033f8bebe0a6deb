"""The story of random updates: its files are right, and it tells a wrong answer from a right one."""

from __future__ import annotations

import pytest

from deployments.loadtest.calls.answers import WrongAnswer
from loadtests import declare
from loadtests.faults.updates import Story
from runtime.declaration import config_file


def test_every_file_of_a_story_can_be_read(tmp_path):
    """Names and prefixes are there once, and what is called is declared."""
    for seed in range(6):
        story = Story(seed)
        for _ in range(10):
            story.change()
            file = config_file.read(
                declare.write(tmp_path / "serve_config.yaml", story.applications)
            )
            names = {spec.name for spec in file.functions}
            prefixes = {spec.route_prefix for spec in file.functions}
            assert len(names) == len(prefixes) == len(story.functions)
            assert {one.calls for one in story.functions.values() if one.calls} <= names
            story.settle()


def test_an_answer_is_of_a_version_that_was_declared_while_the_call_was_under_way():
    """By the function that answers for the one that was called."""
    story = Story(3)
    request = story.make(7)
    (one,) = (one for one in story.functions.values() if one.prefix == request.path)
    answer = {"name": one.name, "version": one.version, "x": 7}
    request.check(answer)
    for wrong in ({"version": 99}, {"x": 8}, {"name": "another"}):
        with pytest.raises(WrongAnswer):
            request.check({**answer, **wrong})
    while story.functions.get(one.name) == one:
        story.change()
    request.check(answer)  # the former version may answer until the file is taken
    story.settle()
    while (later := story.make(8)).path != request.path and one.name in story.functions:
        pass
    if later.path == request.path:
        with pytest.raises(WrongAnswer):
            later.check({**answer, "x": 8})
