"""Nothing is left in memory of what hostile clients send, in any process: ``tests.hostile.left``,
which is run for `up` as well.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile import targets
from tests.hostile.left import MOST_LEFT_MB, measure

pytestmark = [pytest.mark.full, pytest.mark.slow]  # ``test_in_process`` sends each once


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("workers", [1, 2], ids=["run", "workers"])
def test_what_is_refused_leaves_nothing(tmp_path: Path, workers: int) -> None:
    """A hundred times each: less than 8 MiB more in each process, and none ends."""
    with targets.run(tmp_path, workers=workers) as target:
        first = target.processes()
        left = [str(one) for one in measure(target) if one.mb > MOST_LEFT_MB]
        assert target.processes() == first
    assert not left, "\n".join(left)
