"""What hostile clients send to `wakeful run`, in one process and in several behind HAProxy: each
gets the answer that is right. Of HAProxy and of the processes behind it each request is one, with
one end.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile import targets
from tests.hostile.acts import ACTS, SLOW, Act
from tests.hostile.bodies import BODIES
from tests.hostile.rows import ROWS, Row
from tests.hostile.targets import Target
from tests.hostile.vectors import VECTORS, Vector

pytestmark = [pytest.mark.full, pytest.mark.slow]  # ``test_in_process`` shows it in one process


@pytest.fixture(scope="module", params=[1, 2], ids=["run", "workers"])
def target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    """Well at the end, with the processes that it had."""
    folder = tmp_path_factory.mktemp("hostile")
    with targets.run(folder, workers=request.param) as target:
        before = target.processes()
        yield target
        assert target.is_well()
        assert target.processes() == before


@pytest.mark.parametrize("in_two", [False, True], ids=["whole", "in two"])
@pytest.mark.parametrize("vector", VECTORS, ids=lambda one: one.name)
def test_bytes_are_one_request_or_none(target: Target, vector: Vector, in_two: bool) -> None:
    """Whatever another program would read in them."""
    vector.check(target, in_two=in_two)


def test_a_process_behind_haproxy_reads_them_alike(target: Target) -> None:
    """Each by itself; without HAProxy there is none."""
    ports = target.own_ports()
    assert len(ports) == (2 if target.is_behind_haproxy else 0)
    for port in ports:
        for vector in VECTORS:
            vector.check(target, port)


@pytest.mark.parametrize("row", [*ROWS, *BODIES], ids=str)
def test_a_request_is_answered_as_it_must_be(target: Target, row: Row) -> None:
    """And the ones around it."""
    row.check(target)


@pytest.mark.parametrize("act", [*ACTS, SLOW], ids=str)
def test_others_do_not_notice(target: Target, act: Act) -> None:
    """What many clients do at once, or leave undone."""
    act.check(target)
