"""An update never refuses a caller: at each of its moments every version that may take calls finds
what it calls, whatever changes and whatever does not start.
"""

from __future__ import annotations

import random

import pytest

from tests.deployments.rollout.simulated_update import (
    BELOW,
    Cluster,
    File,
    Fn,
    changed_file,
    random_file,
)


def update_randomly(seed: int) -> None:
    """All steps of it."""
    random_cluster(seed).run()


def random_cluster(seed: int) -> Cluster:
    """A pair of files, with what is refused and what is promoted."""
    chance = random.Random(seed)
    before = random_file(chance)
    after = changed_file(before, chance)
    promoted = frozenset(
        name for name, fn in before.items() if not fn.is_own and chance.random() < 0.3
    )
    return Cluster(
        before,
        after,
        chance,
        failing=chance.choice((0, 0, 0.3, 0.6)),
        is_short=chance.random() < 0.3,
        promoted=promoted,
    )


def test_every_version_finds_what_it_calls_at_every_moment_of_an_update():
    """Of random pairs of files: callees first, callers then, removals last."""
    for number in range(60):
        update_randomly(number)


def test_an_update_that_is_interrupted_goes_back_to_what_was():
    """From any of its steps before the first removal."""
    for number in range(3_000_000, 3_000_060):
        random_cluster(number).run_and_go_back()


@pytest.mark.full
@pytest.mark.slow
def test_every_version_finds_what_it_calls_at_every_moment_of_ten_thousand_updates():
    """The same of many."""
    for number in range(2_000_000, 2_010_000):
        update_randomly(number)


def pair(*changes: Fn, without: str = "", **before: Fn) -> tuple[File, File]:
    """Two files, by what is other in the second one."""
    after = {name: fn for name, fn in before.items() if name != without}
    return before, {**after, **{fn.name: fn for fn in changes}}


def caller(is_own: bool, *calls: str, version: int = 0, **more) -> Fn:
    """The function that clients call."""
    return Fn("A", 0, f"{BELOW}/A", is_own, version, calls=list(calls), **more)


def callee(name: str, is_own: bool, prefix: str = "") -> Fn:
    """The function that it calls."""
    return Fn(name, 5, prefix or f"{BELOW}/{name}", is_own)


PAIRS = {
    "own A, a stage gets a part in the host": pair(
        caller(True, version=1, parts={"t": (False, 0, 0)}), A=caller(True)
    ),
    "hosted A becomes own and gets a part": pair(
        caller(True, version=1, parts={"t": (False, 0, 0)}), A=caller(False)
    ),
    "own A begins to call new hosted B": pair(
        caller(True, "B", version=1), callee("B", False), A=caller(True)
    ),
    "own A no longer calls own B, which goes": pair(
        caller(True, version=1), without="B", A=caller(True, "B"), B=callee("B", True)
    ),
    "hosted A no longer calls own B, which goes": pair(
        caller(False, version=1), without="B", A=caller(False, "B"), B=callee("B", True)
    ),
    "hosted A no longer calls hosted B, which goes": pair(
        caller(False, version=1), without="B", A=caller(False, "B"), B=callee("B", False)
    ),
    "B moves, own A calls it": pair(
        callee("B", True, "/b2"), A=caller(True, "B"), B=callee("B", True, "/b1")
    ),
    "B moves, hosted A calls it": pair(
        callee("B", True, "/b2"), A=caller(False, "B"), B=callee("B", True, "/b1")
    ),
    "B renamed to C, own A calls it": pair(
        caller(True, "C", version=1),
        callee("C", True),
        without="B",
        A=caller(True, "B"),
        B=callee("B", True),
    ),
    "B renamed to C, hosted A calls it": pair(
        caller(False, "C", version=1),
        callee("C", False),
        without="B",
        A=caller(False, "B"),
        B=callee("B", False),
    ),
    "B renamed to C, at the same prefix": pair(
        caller(True, "C", version=1),
        callee("C", True, "/b"),
        without="B",
        A=caller(True, "B"),
        B=callee("B", True, "/b"),
    ),
    "B and C exchange their prefixes": pair(
        callee("B", True, "/c"),
        callee("C", True, "/b"),
        A=caller(True, "B", "C"),
        B=callee("B", True, "/b"),
        C=callee("C", True, "/c"),
    ),
}


@pytest.mark.parametrize(("before", "after"), PAIRS.values(), ids=PAIRS)
def test_callers_are_not_refused(before, after):
    """The updates that refused callers for seconds, when callers started before their callees and
    what was removed went first.
    """
    Cluster(before, after, random.Random(1)).run()
