"""What HAProxy lacks is written down where ``status`` and ``/metrics`` find it."""

from __future__ import annotations

import pytest

from deployments.ingress.haproxy.lacks import CLOSED, PROMISES, Lacks, read_off, write_lacks
from deployments.ray_support.environment import LACKS


@pytest.mark.parametrize("lacks", [Lacks("It is cold."), Lacks("It is: cold.", is_open=True)])
def test_promises_that_are_off_are_read_again(tmp_path, lacks):
    """Each with what is lost; nothing is written while nothing is lacking."""
    write_lacks(tmp_path, Lacks())
    assert not (tmp_path / LACKS).exists()
    write_lacks(tmp_path, lacks)
    assert read_off(tmp_path) == {*PROMISES, *([CLOSED] if lacks.is_open else [])}
    first, *lines = (tmp_path / LACKS).read_text().splitlines()
    assert first.startswith("It is")
    assert f"replay: {PROMISES['replay']}." in lines
    write_lacks(tmp_path, Lacks())
    assert read_off(tmp_path) == set()
    assert not (tmp_path / LACKS).exists()


@pytest.mark.parametrize("text", ["", "one", b"\xff"])
def test_a_damaged_file_says_nothing(tmp_path, text):
    """It is written by a program that may be killed."""
    (tmp_path / LACKS).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert read_off(tmp_path) == set()
