"""A call that waits requests a wake; a policy sees it once."""

from __future__ import annotations

import time

import pytest

from deployments.ingress.wake_signal import (
    FOLDER,
    ReplayTerms,
    WakeRequest,
    WakeSignal,
    WakeSignals,
    remove_signal,
)
from deployments.ray_support.environment import MARK


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The state folder of a cluster of ours."""
    monkeypatch.setenv(MARK, str(tmp_path))
    return tmp_path


def hang(prefix: str, timeout_s: float, name: str = "") -> WakeSignal:
    """A bell of a function with a few limits."""
    return WakeSignal(prefix, ReplayTerms(timeout_s, 1 << 20, 8, 4 << 20, name=name))


def ring(path: str) -> WakeRequest | None:
    """As a proxy does that has just started."""
    return WakeSignals().request_wake(path)


@pytest.mark.parametrize("tail", ["", "/infer", "/ready", "/versions/1", "/versions/1/infer"])
def test_a_call_by_any_route_is_signalled_once(home, tail):
    """By the policy of that function and no other."""
    mine, other = hang("/v2/models/f", 7.5), hang("/v2/models/f2", 1)
    assert not mine.was_signalled()
    rung = ring(f"/v2/models/f{tail}")
    assert rung is not None
    assert rung.terms == ReplayTerms(7.5, 1 << 20, 8, 4 << 20)
    assert (mine.was_signalled(), mine.was_signalled(), other.was_signalled()) == (
        True,
        False,
        False,
    )


def test_a_client_cannot_make_a_signal_by_calling(home):
    """A path that is no function's leaves nothing."""
    assert ring("/v2/models/../../etc/x") is None
    assert ring("/v2/models/" + "x" * 5000) is None
    assert not (home / FOLDER).exists()


def test_on_a_cluster_that_is_not_ours_there_is_no_signal(monkeypatch):
    """Ray's own reports wake the function there."""
    monkeypatch.delenv(MARK, raising=False)
    signal = hang("/v2/models/f", 1)
    ring("/v2/models/f")
    assert not signal.was_signalled()


def test_a_signal_is_removed_with_its_application(home):
    """A call that waits sees that; signals of other applications stay."""
    hang("/v2/models/f", 1, "f")
    hang("/v2/models/g", 1, "g")
    one, other = ring("/v2/models/f/infer"), ring("/v2/models/g/infer")
    assert one is not None
    assert other is not None
    remove_signal("f")
    assert (one.path.exists(), other.path.exists()) == (False, True)
    assert ring("/v2/models/f") is None


def test_a_hosts_signal_is_used_for_functions_without_one(home):
    """The longest prefix has it; what is not ours has none."""
    hang("/v2/models", 60, "host")
    hang("/v2/models/f", 1, "f")
    assert [
        rung and rung.terms.timeout_s
        for rung in map(ring, ("/v2/models/f/infer", "/v2/models/g/infer", "/other/x", "/"))
    ] == [
        1,
        60,
        None,
        None,
    ]


def test_signals_that_are_made_and_removed_are_noticed(home):
    """By a proxy that has looked before, at the next call."""
    signals = WakeSignals()
    assert signals.request_wake("/v2/models/f") is None
    hang("/v2/models/f", 1, "f")
    assert signals.request_wake("/v2/models/f") is not None
    hang("/v2/models/f/g", 2, "g")
    hang("/v2/models/f", 3, "f")
    assert [
        rung and (rung.prefix, rung.terms.timeout_s)
        for rung in map(signals.request_wake, ("/v2/models/f/x", "/v2/models/f/g/x"))
    ] == [
        ("/v2/models/f", 3),
        ("/v2/models/f/g", 2),
    ]
    remove_signal("f")
    assert signals.request_wake("/v2/models/f/x") is None


@pytest.mark.parametrize(
    "path",
    ["/v2/models/f" + "/a" * 30_000, "/" * 60_000, "/v2/models/f" + "/%20é" * 12_000, "x" * 60_000],
)
def test_no_path_takes_long(home, path):
    """However many segments it has: it was quadratic, and minutes for the longest that HAProxy lets
    through.
    """
    hang("/v2/models/f", 1)
    signals = WakeSignals()
    signals.request_wake(path)
    began = time.process_time()
    for _ in range(100):
        signals.request_wake(path)
    assert time.process_time() - began < 1.0
