"""Processes that keep cores busy beside a function."""

from __future__ import annotations

import time

import psutil
import pytest

from deployments.scaling.planning.measure import count_neighbours
from deployments.scaling.planning.neighbours import busy_neighbours
from runtime.errors import LoadError
from runtime.settings import Settings
from tests import onnx_models
from tests.deployments.scaling.planning.made_profiles import declare

MB = 1_000_000


@pytest.mark.parametrize(
    ("cores", "device", "replica_mb", "free_mb", "count"),
    [
        pytest.param(1, "cpu", 100, 8000, 0, id="one core"),
        pytest.param(2, "cpu", 100, 8000, 1, id="two"),
        pytest.param(64, "cpu", 100, 80000, 15, id="bounded"),
        pytest.param(8, "cpu", 1000, 5000, 2, id="half of the memory"),
        pytest.param(8, "cpu", 9000, 5000, 0, id="no memory"),
        pytest.param(8, "", 0, 5000, 7, id="no model"),
        pytest.param(8, "cuda", 100, 8000, 0, id="another device"),
    ],
)
def test_there_is_a_neighbour_for_each_other_core(cores, device, replica_mb, free_mb, count):
    """As far as memory goes."""
    assert count_neighbours(cores, device, replica_mb * MB, free_mb * MB) == count


def children() -> list[psutil.Process]:
    """Processes of this one that run a neighbour."""
    return [
        child
        for child in psutil.Process().children()
        if any("keep_busy" in part for part in child.cmdline())
    ]


@pytest.mark.slow
def test_neighbours_work_until_the_block_ends(tmp_path, monkeypatch):
    """Each uses its processor; afterwards none is left."""
    onnx_models.double(tmp_path / "m.onnx")
    monkeypatch.chdir(tmp_path)
    with busy_neighbours(declare(), Settings.read(), {"x": [1.0, 2.0, 3.0]}, 1):
        (child,) = children()
        before_s = sum(child.cpu_times()[:2])
        until = time.monotonic() + 30
        while sum(child.cpu_times()[:2]) - before_s < 0.05:
            assert time.monotonic() < until
    assert children() == []


@pytest.mark.slow
def test_a_neighbour_that_does_not_load_is_said(tmp_path, monkeypatch):
    """Its model is not there; none is left either."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LoadError), busy_neighbours(declare(), Settings.read(), {"x": [1.0]}, 1):
        pass
    assert children() == []
