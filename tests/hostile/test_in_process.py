"""What hostile clients send to a server as `wakeful run` has it: each gets the answer that is right,
and no other client notices. The same on `wakeful run`, `--workers` and `up`: ``test_served`` and
``test_on_ray``, which take longer.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile import targets
from tests.hostile.acts import ACTS, Act
from tests.hostile.bodies import BODIES
from tests.hostile.rows import ROWS, Row
from tests.hostile.targets import Target
from tests.hostile.vectors import VECTORS, Vector


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Well at the end."""
    with targets.in_process(tmp_path_factory.mktemp("hostile")) as target:
        yield target
        assert target.is_well()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda one: one.name)
def test_bytes_are_one_request_or_none(target: Target, vector: Vector) -> None:
    """Whatever another program would read in them."""
    vector.check(target)


@pytest.mark.parametrize("row", [*ROWS, *BODIES], ids=str)
def test_a_request_is_answered_as_it_must_be(target: Target, row: Row) -> None:
    """And the ones around it."""
    row.check(target)


@pytest.mark.parametrize("act", [one for one in ACTS if one.number != 35], ids=str)
def test_others_do_not_notice(target: Target, act: Act) -> None:
    """What many clients do at once, or leave undone."""
    act.check(target)
