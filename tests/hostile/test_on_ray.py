"""What hostile clients send to `wakeful up`: each gets the answer that is right, and HAProxy and the
replicas read each request as one, with one end.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deployments.projects import Standing
from tests.hostile import targets
from tests.hostile.acts import ACTS, SLOW
from tests.hostile.bodies import BODIES
from tests.hostile.rows import ROWS
from tests.hostile.targets import Target
from tests.hostile.vectors import VECTORS

pytestmark = [pytest.mark.full, pytest.mark.ray]  # ``test_in_process`` shows it in one process


@pytest.fixture(scope="module")
def target(standing: Standing) -> Iterator[Target]:
    """Well at the end, with the replicas that it had; one more may have earned its own, of which a
    HAProxy is told anew.
    """
    with targets.up(standing) as target:
        before = target.processes()
        yield target
        assert target.is_well()
        replicas = {pid for pid, title in before.items() if title.startswith("ServeReplica")}
        assert replicas <= target.processes().keys()


def test_bytes_are_one_request_or_none(target: Target) -> None:
    """Through HAProxy, whole and in two, and by a replica itself."""
    own = target.own_ports()
    assert own
    faults = []
    for vector in VECTORS:
        for port, in_two in ((0, False), (0, True), *((port, False) for port in own)):
            try:
                vector.check(target, port, in_two=in_two)
            except AssertionError as error:
                faults.append(f"{vector.name}, {port or 'HAProxy'}: {error}")
    assert not faults, "\n".join(faults)


def test_a_request_is_answered_as_it_must_be(target: Target) -> None:
    """Each row."""
    faults = []
    for row in (*ROWS, *BODIES):
        try:
            row.check(target)
        except AssertionError as error:
            faults.append(f"{row}: {error}")
    assert not faults, "\n".join(faults)


def test_others_do_not_notice(target: Target) -> None:
    """What many clients do at once, or leave undone."""
    for act in (*ACTS, SLOW):
        act.check(target)
