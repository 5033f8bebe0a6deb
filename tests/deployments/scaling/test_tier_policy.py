"""Which tier a function belongs to, by tables of samples."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deployments.scaling.tier_policy import (
    DEFAULT,
    Thresholds,
    TierHistory,
    TierTerms,
    choose_tier,
    peak_work_rate,
    retry_delay_s,
    work_rate,
)
from runtime.library.function_report import UsageSample
from tests.problems import expect_values

TERMS = TierTerms(workers=1, downscale_delay_s=60.0, downscale_to_zero_delay_s=60.0)


def looks(cores: float, seconds: int, *, calls: int = 50, **fields) -> list[UsageSample]:
    """A sample a second of steady use, up to now = ``seconds``."""
    return [
        UsageSample(at=float(at), busy_s=cores * at, calls=calls * at, **{"in_flight": 1, **fields})
        for at in range(seconds + 1)
    ]


def chosen(tier, seen, *, since=0.0, now=None, past=None, **terms):
    """What is chosen at the last sample, on other terms, or after another past."""
    now = seen[-1].at if now is None else now
    history = TierHistory(tier, since, seen, now, **(past or {}))
    return choose_tier(history, replace(TERMS, **terms))


@pytest.mark.parametrize(
    ("cores", "workers", "to"),
    [(0.75, 1, "own"), (0.65, 1, ""), (0.75, 4, ""), (0.85, 4, "own"), (0.0, 1, "")],
)
def test_work_promotes(cores, workers, to):
    """0.7 of its own one worker, or 0.8 of a core of the host."""
    assert chosen("host", looks(cores, 5), workers=workers).to == to


def test_a_reason_has_its_numbers():
    """What is kept for `wakeful status --why`."""
    move = chosen("host", looks(1.3, 6), workers=2)
    expect_values(move.why, "host → own", "1.3 cores", "4 s")


def test_a_burst_shorter_than_the_window_does_not_promote():
    """Three busy seconds, then the window is not full yet; four are."""
    assert chosen("host", looks(1.0, 3)).to == ""
    assert chosen("host", looks(1.0, 4)).to == "own"


@pytest.mark.parametrize(
    ("cores", "fields", "slo", "to"),
    [
        (0.4, {"waiting_rows": 3}, None, "own"),
        (0.2, {"waiting_rows": 3}, None, ""),
        (0.4, {"p95_ms": 80.0}, 50.0, "own"),
        (0.4, {"p95_ms": 80.0}, None, ""),
        (0.4, {"p95_ms": 40.0}, 50.0, ""),
        (0.4, {"p95_ms": None}, 50.0, ""),
        (0.4, {"p95_ms": 80.0, "calls": 1}, 50.0, ""),
        (0.4, {"p95_ms": 80.0, "calls": 6}, 50.0, ""),
    ],
    ids=[
        "waits",
        "waits-rarely-used",
        "misses",
        "no-slo",
        "meets",
        "unknown",
        "few-calls",
        "slow-by-itself",
    ],
)
def test_waiting_and_a_missed_slo_promote_what_would_stay(cores, fields, slo, to):
    """At every sample, with work enough not to be handed back, and where ending the wait would
    help.
    """
    assert chosen("host", looks(cores, 8, **fields), slo_p95_ms=slo).to == to


def test_one_sample_without_waiting_is_no_sustained_wait():
    """A queue that empties is what a batcher is for."""
    seen = looks(0.4, 8, waiting_rows=3)
    seen[6] = UsageSample(6.0, 0.4 * 6, 300, 1, 0)
    assert chosen("host", seen).to == ""


def test_what_does_not_fit_stays_and_says_why():
    """The host goes on serving."""
    missing = "2 CPUs wanted, 1 free"
    move = chosen("host", looks(1.0, 5), past={"missing_resources": missing})
    assert move.to == ""
    expect_values(move.why, "host: ", "1 cores", "4 s", missing)


@pytest.mark.parametrize(("ago_s", "to"), [(10.0, ""), (70.0, "own")])
def test_a_failed_promotion_is_tried_again_later(ago_s, to):
    """60 s after the second failure."""
    seen = looks(1.0, 100)
    assert chosen("host", seen, past={"failures": 2, "failed_at": 100 - ago_s}).to == to


def test_waits_after_failures_grow_and_are_bounded():
    """Doubling from 30 s to ten minutes."""
    assert [retry_delay_s(failures) for failures in (1, 2, 3, 6, 500)] == [30, 60, 120, 600, 600]


@pytest.mark.parametrize(
    ("cores", "seconds", "to"), [(0.1, 61, "host"), (0.1, 50, ""), (0.3, 61, "")]
)
def test_little_work_for_long_hands_back(cores, seconds, to):
    """Under a quarter of what promotes, for the whole delay."""
    assert chosen("own", looks(cores, seconds)).to == to


def test_a_burst_a_minute_keeps_its_deployment():
    """The mean over the delay is small, and handing back would be undone by the next burst."""
    busy, seen = 0.0, []
    for at in range(62):
        busy += 0.9 if 30 <= at < 35 else 0.0
        seen.append(UsageSample(float(at), busy, at))
    assert chosen("own", seen).to == ""
    assert peak_work_rate(seen, 4.0) == pytest.approx(0.9)


def test_samples_of_the_previous_tier_do_not_count():
    """What the host saw hands back no deployment that is new, and what a deployment did promotes
    nothing that the host has again; nor does it keep what is quiet now.
    """
    assert chosen("own", looks(0.1, 70), since=0.0).to == "host"
    assert chosen("own", looks(0.1, 70), since=65.0).to == ""
    assert chosen("host", looks(1.0, 70), since=0.0).to == "own"
    assert chosen("host", looks(1.0, 70), since=68.0).to == ""
    seen = [*looks(1.0, 40), *[UsageSample(41.0 + at, 0.1 * at, at, 1) for at in range(91)]]
    assert chosen("own", seen, since=0.0, downscale_delay_s=95.0).to == ""
    assert chosen("own", seen, since=40.5, downscale_delay_s=85.0).to == "host"


def test_a_counter_that_falls_is_nothing_done():
    """A replica ended and took its seconds with it."""
    assert work_rate(
        [UsageSample(0.0, 10.0, 1), UsageSample(1.0, 2.0, 1), UsageSample(2.0, 3.0, 1)]
    ) == pytest.approx(0.5)


@pytest.mark.parametrize("tier", ["host", "own"])
def test_idle_for_its_delay_it_sleeps(tier):
    """Whichever tier."""
    assert chosen(tier, looks(0.0, 70, in_flight=0, idle_s=61.0)).to == "asleep"
    assert chosen(tier, looks(0.0, 70, in_flight=1, idle_s=61.0)).to != "asleep"


@pytest.mark.parametrize(("to_zero_s", "to"), [(60.0, ""), (3600.0, "host")])
def test_what_will_sleep_soon_is_not_handed_back_first(to_zero_s, to):
    """Loading it in the host would be undone at once; for an hour of idling it pays."""
    seen = looks(0.0, 70, calls=0, in_flight=0, idle_s=50.0)
    assert chosen("own", seen, downscale_to_zero_delay_s=to_zero_s).to == to


def test_unseen_is_undecided():
    """A host that restarts reports nothing for a while."""
    assert chosen("host", looks(1.0, 10), now=20.0).to == ""
    move = chosen("own", [], now=20.0)
    assert move.to == ""
    expect_values(move.why, "own: ", "not seen", "20 s")


def test_promotion_and_handing_back_are_apart():
    """No steady work is both: what one does the other does not undo."""
    for workers in (1, 2, 8):
        assert DEFAULT.demote_part * DEFAULT.promote_at(
            workers
        ) < DEFAULT.stay_part * DEFAULT.promote_at(workers)
    for hundredth in range(120):
        cores = hundredth / 100
        assert not (
            chosen("host", looks(cores, 70)).to == "own"
            and chosen("own", looks(cores, 70)).to == "host"
        )


@pytest.mark.parametrize(
    ("work", "workers", "promoted"),
    [(0.8, 4, 0.8), (0.8, 1, 0.7), (0.4, 1, 0.35), (1000.0, 2, 1000.0)],
)
def test_another_threshold_holds_for_functions_of_few_workers_too(work, workers, promoted):
    """A very large one keeps everything in the host."""
    assert Thresholds.at(work).promote_at(workers) == pytest.approx(promoted)


@pytest.mark.parametrize(
    ("tier", "cores", "idle_s"), [("host", 1.3, 0.0), ("own", 0.01, 0.0), ("own", 0.0, 90.0)]
)
def test_no_function_moves_while_its_sequences_live(tier, cores, idle_s):
    """Neither up nor down nor asleep: what is kept between calls is in the process that would be
    left.
    """
    move = chosen(tier, looks(cores, 70, sequences=3, in_flight=0, idle_s=idle_s))
    assert (move.to, move.why.split(" and")[0]) == ("", f"{tier}: 3 sequences live")
    assert chosen(tier, looks(cores, 70, in_flight=0, idle_s=idle_s)).to
