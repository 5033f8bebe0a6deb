"""A plan in words."""

from __future__ import annotations

import math

import pytest

from deployments.scaling.planning.costs import Prices
from deployments.scaling.planning.traffic import steady_traffic
from deployments.scaling.planning.traffic_plan import MachineSize, Range
from deployments.scaling.planning.words import (
    columns_of,
    duration,
    range_words,
    sentence_of,
    totals_of,
)
from tests.deployments.scaling.planning.made_profiles import declare, profile_of
from tests.deployments.scaling.planning.test_needs import made


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.010, 0.012, "10 to 12 ms"),
        (0.010, 0.010, "10 ms"),
        (0.9, 1.234, "900 ms to 1.23 s"),
        (1.1, 2.0, "1.10 to 2.00 s"),
    ],
)
def test_a_range_has_its_unit_once(low, high, text):
    """Where it is the same."""
    assert range_words(Range(low, high)) == text


def cells(found) -> dict[str, str]:
    """Of the first function, by their heads."""
    return {head: cell(found.functions[0]) for head, cell in columns_of(found)}


def test_a_share_of_a_gpu_is_in_the_table_and_in_the_cost():
    """Replicas and what each takes; of the month, what is for the GPU."""
    scaling = {"min_replicas": 2, "max_replicas": 2}
    spec = declare(resources={"num_gpus": 0.25, "num_cpus": 1}, autoscaling=scaling)
    size = MachineSize(cores=2, memory_bytes=8_000_000_000, gpus=1)
    traffic = steady_traffic({"f": 5.0}, 36.0, seed=1)
    prices = Prices(cpu=0.1, gpu=1.0)
    found, _ = made(spec, traffic, size, prices, profile_of(spec, gpu_memory_mb=900))
    seen = cells(found)
    assert seen["GPUs"] == "2 x 0.25"
    assert seen["of it GPU"] == "365.00"
    assert seen["month"] == "511.00"
    assert any("730.00 of it for GPUs" in line for line in totals_of(found))


def test_without_gpus_and_prices_there_are_no_columns_of_them():
    """Nor of a range that is not known."""
    found, _ = made(declare(), steady_traffic({"f": 5.0}, 36.0, seed=1))
    assert not {"GPUs", "month", "of it GPU"} & set(cells(found))
    assert cells(found)["p95 between"]


@pytest.mark.parametrize(
    ("slo", "words"),
    [
        ({"latency_p95_ms": 500}, "it holds."),
        ({"latency_p95_ms": 1}, "it does not hold: f does not keep its p95."),
    ],
)
def test_a_verdict_is_a_sentence(slo, words):
    """With what does not hold."""
    found, _ = made(declare(slo=slo), steady_traffic({"f": 5.0}, 36.0, seed=1))
    assert sentence_of(found) == words


def test_calls_that_expire_are_said():
    """In the table, and in the sentence with what to do."""
    spec = declare(tier="own", slo={"latency_p95_ms": 500})
    found, one = made(spec, steady_traffic({"f": 0.5}, 36.0, seed=1), start_s=600.0)
    assert cells(found)["expired"] == str(one.expired)
    assert "f does not answer" in sentence_of(found)
    fine, _ = made(spec, steady_traffic({"f": 0.5}, 36.0, seed=1))
    assert "expired" not in cells(fine)
    assert (duration(math.inf), range_words(Range(0.04, math.inf))) == (
        "no answer",
        "40 ms to no answer",
    )


def test_an_unsure_verdict_says_its_range():
    """Beside what is promised."""
    spec = declare(slo={"latency_p95_ms": 13})
    traffic = steady_traffic({"f": 5.0}, 36.0, seed=1)
    found, _ = made(spec, traffic, profile=profile_of(spec, drift=0.3))
    assert found.outcome == "UNSURE"
    assert sentence_of(found).startswith("it may hold or not: p95 of f is ")
    assert sentence_of(found).endswith("13 ms promised.")
