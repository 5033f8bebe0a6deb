"""What the hop of a split stage is measured with."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from loadtests.bench import hop_stages
from loadtests.bench.hop import added_ms, declared
from runtime.check import linked
from runtime.parts import parted
from runtime.settings import Settings
from runtime.specfile import read


def test_every_graph_is_declared_fused_and_split_and_fits_together(tmp_path: Path) -> None:
    """The split ones in two functions, each with a replica that is always there."""
    path = tmp_path / "hop.yaml"
    path.write_bytes(orjson.dumps(declared()))
    file = linked(parted(read(path)), Settings(root=tmp_path, models=tmp_path))
    assert sorted(spec.name for spec in file.functions) == [
        "back-fused",
        "back-split",
        "back-split.same",
        "there-fused",
        "there-split",
        "there-split.middle",
    ]
    assert {spec.autoscaling.min_replicas for spec in file.functions} == {1}


def test_the_tensor_is_what_an_image_is() -> None:
    """600 KB, and its answer tells that it arrived."""
    pixels = hop_stages.image(7)["pixels"]
    assert pixels.nbytes == 602_112
    assert hop_stages.answer(hop_stages.middle(pixels)) == hop_stages.answer_same(hop_stages.same(pixels)["pixels"]) == {"middle": 7.0}


def test_the_hop_is_what_the_split_function_takes_longer() -> None:
    """At one percentile, in milliseconds."""
    assert added_ms({"fused": [0.001] * 5, "split": [0.003] * 5}, 0.5) == pytest.approx(2.0)
