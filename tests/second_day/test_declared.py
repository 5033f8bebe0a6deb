"""Every mistake that can be seen before anything runs is named by `wakeful check`, with its place and
what to write.
"""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from deployments.cli import main
from tests.second_day.declared import MISTAKES, Mistake
from tests.second_day.projects import working_in


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.title)
def test_check_says_what_to_write(mistake: Mistake) -> None:
    """And refuses what cannot serve; what is right passes."""
    with working_in(mistake.project):
        result = CliRunner().invoke(main, ["check"])
    assert result.exit_code == mistake.status, result.output
    assert mistake.where in result.output
    for word in mistake.words:
        assert word in result.output, result.output
    assert "Traceback" not in result.output
