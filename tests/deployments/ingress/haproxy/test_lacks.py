"""What HAProxy lacks is written down where ``status`` and the log find it."""

from __future__ import annotations

import pytest

from deployments.ingress.haproxy.lacks import CLOSED, PROMISES, Lacks, write_lacks
from deployments.ray_support.haproxy_names import LACKS


@pytest.mark.parametrize("lacks", [Lacks("It is cold."), Lacks("It is: cold.", is_open=True)])
def test_promises_that_are_off_are_written_down(tmp_path, lacks):
    """Each with what is lost; nothing is written while nothing is lacking."""
    write_lacks(tmp_path, Lacks())
    assert not (tmp_path / LACKS).exists()
    write_lacks(tmp_path, lacks)
    first, *lines = (tmp_path / LACKS).read_text().splitlines()
    assert first.startswith("It is")
    names = [line.partition(":")[0] for line in lines]
    assert names == [*PROMISES, *([CLOSED] if lacks.is_open else [])]
    assert f"replay: {PROMISES['replay']}." in lines
    write_lacks(tmp_path, Lacks())
    assert not (tmp_path / LACKS).exists()
