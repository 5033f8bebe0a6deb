"""A call that waits rings; a policy hears it once."""

from __future__ import annotations

import pytest

from deployments.bell import FOLDER, Bell, ring, take_down
from deployments.rayenv import MARK


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The state folder of a cluster of ours."""
    monkeypatch.setenv(MARK, str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("tail", ["", "/infer", "/ready", "/versions/1", "/versions/1/infer"])
def test_a_call_by_any_route_is_heard_once(home, tail):
    """By the policy of that function and no other."""
    mine, other = Bell("/v2/models/f", 7.5), Bell("/v2/models/f2", 1)
    assert not mine.rang()
    rung = ring(f"/v2/models/f{tail}")
    assert rung is not None
    assert rung.timeout_s == 7.5
    assert (mine.rang(), mine.rang(), other.rang()) == (True, False, False)


def test_nobody_can_hang_up_a_bell_by_calling(home):
    """A path that is no function's leaves nothing."""
    assert ring("/v2/models/../../etc/x") is None
    assert ring("/v2/models/" + "x" * 5000) is None
    assert not (home / FOLDER).exists()


def test_on_a_cluster_that_is_not_ours_nothing_is_heard(monkeypatch):
    """Ray's own reports wake the function there."""
    monkeypatch.delenv(MARK, raising=False)
    bell = Bell("/v2/models/f", 1)
    ring("/v2/models/f")
    assert not bell.rang()


def test_a_bell_is_taken_down_with_its_application(home):
    """Whoever waits sees that; others' stay."""
    Bell("/v2/models/f", 1, "f")
    Bell("/v2/models/g", 1, "g")
    one, other = ring("/v2/models/f/infer"), ring("/v2/models/g/infer")
    assert one is not None
    assert other is not None
    take_down("f")
    assert (one.path.exists(), other.path.exists()) == (False, True)
    assert ring("/v2/models/f") is None


def test_a_host_s_bell_is_rung_for_functions_that_have_none(home):
    """The longest prefix has it; what is not ours has none."""
    Bell("/v2/models", 60, "host")
    Bell("/v2/models/f", 1, "f")
    assert [rung and rung.timeout_s for rung in map(ring, ("/v2/models/f/infer", "/v2/models/g/infer", "/other/x", "/"))] == [
        1,
        60,
        None,
        None,
    ]
