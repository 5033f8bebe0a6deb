"""The file that the benchmark serves."""

from __future__ import annotations

from pathlib import Path

from loadtests.bench.run import DECLARED
from loadtests.bench.trivial import answer
from runtime.specfile import read

SHIPPED = Path(__file__).parents[3] / "serve_config.yaml"


def test_embed_is_measured_as_it_ships() -> None:
    """Only its scaling differs: a number for another declaration than the shipped one would be nobody's."""
    measured, shipped = ({f.name: f for f in read(path).functions}["embed"] for path in (DECLARED, SHIPPED))
    assert {**measured.to_args(), "autoscaling": None} == {**shipped.to_args(), "autoscaling": None}
    assert (measured.autoscaling.min_replicas, measured.autoscaling.max_replicas) == (1, 1)


def test_the_trivial_function_is_declared_beside_it() -> None:
    """It stays awake, and doubles."""
    trivial = {f.name: f for f in read(DECLARED).functions}["trivial"]
    assert trivial.route_prefix == "/v2/models/trivial"
    assert trivial.autoscaling.min_replicas == 1
    assert answer(1.5) == 3.0
