"""Which tier a function belongs to: a pure function of samples at it and of ``now``.

Rules, for functions of ``tier: auto``:

1. Promoted (host → own) when over ``window_s`` it kept a worker so busy that it crowds others, or
   its rows waited at every sample, or its SLO was missed at every sample. The last two only with
   work enough to stay: what would be handed back is not taken out.
2. Handed back (own → host) when no ``window_s`` within ``downscale_delay_s`` had more than a
   quarter of the work that promotes. The peak counts and not the mean: a burst a minute keeps its
   deployment rather than moving twice a minute.
3. Asleep when idle for ``downscale_to_zero_delay_s``. What is idle and will sleep within
   ``downscale_delay_s`` is not handed back first: that would load it in the host only to unload it.
4. Nowhere while sequences live. A function that always has some stays where it is: `tier: own` is
   for it.
5. A promotion that failed is tried again later and later; one that does not fit is reported and
   not tried.

What would break it: samples of the former tier (those before ``since`` are left out), or counters
that fall when a replica ends (a fall counts as nothing done).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Literal

from runtime.library.function_report import UsageSample

if TYPE_CHECKING:
    from runtime.declaration.function_spec import DeclaredSpec

Tier = Literal["host", "own"]

STALE_S: Final = 5.0
"""Samples come about once a second; after five missed ones, nothing is known and nothing is
decided.
"""

RETRY_S: Final = 30.0
MOST_RETRY_S: Final = 600.0
"""A failed promotion is tried again after 30 s, then 60, 120 ... 600: each try starts a process,
and most reasons need a person.
"""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where a function changes its tier.

    Attributes:
        promote_work: cores of work that earn a deployment. 0.8: one function then takes most of a
            core of the shared host from others.
        promote_share: or this part of its own workers. 0.7: with the one worker that most declare,
            queues grow fast above it.
        demote_part: part of the work that promotes below which it is demoted. A quarter: work
            is measured in seconds of threads, and the same calls measured up to twice as much in a
            crowded host as alone.
        stay_part: part of the work that promotes from which waiting rows or a missed SLO promote. A
            half: twice what is demoted.
        window_s: seconds that count. 4: a promotion pays a start of 2 to 3 s, and a burst shorter
            than that gains nothing from it.
        least_calls: calls in the window below which its p95 says nothing. 20: then 95 of 100 leaves
            out one.
    """

    promote_work: float = 0.8
    promote_share: float = 0.7
    demote_part: float = 0.25
    stay_part: float = 0.5
    window_s: float = 4.0
    least_calls: int = 20

    @classmethod
    def at(cls, promote_work: float) -> Thresholds:
        """With another ``promote_work``; the share of a function's own workers moves along."""
        usual = cls()
        return cls(
            promote_work=promote_work,
            promote_share=usual.promote_share * promote_work / usual.promote_work,
        )

    def promote_at(self, workers: int) -> float:
        """Cores of work that promote a function with so many workers."""
        return min(self.promote_work, self.promote_share * workers)


DEFAULT: Final = Thresholds()


def needs_own_deployment(spec: DeclaredSpec) -> bool:
    """Whether a function has a deployment of its own from the start and for good, by its
    declaration alone. With ``limits.replay: false`` too: none of its calls may be lost because
    another function crashes the host.
    """
    scaling = spec.autoscaling
    return bool(
        spec.tier == "own"
        or spec.resources.num_gpus
        or not spec.limits.replay
        or scaling.min_replicas
        or scaling.initial_replicas
    )


def begins_in_host(spec: DeclaredSpec, host_prefix: str | None) -> bool:
    """Whether a function begins in the shared host: nothing asks for a deployment of its own, and
    the host's prefix reaches it.

    Args:
        host_prefix: where the host is mounted; None: there is none.
    """
    if host_prefix is None or needs_own_deployment(spec):
        return False
    return spec.route_prefix.startswith(f"{host_prefix.rstrip('/')}/")


MoveKind = Literal[
    "promote",
    "demote",
    "asleep",
    "unseen",
    "sequences",
    "right here",
    "sleeps soon",
    "promotion failed",
    "no room",
]
"""What may be said again at each tick, with other numbers."""


@dataclass(frozen=True, slots=True)
class TierMove:
    """Where a function goes.

    Attributes:
        to: its new tier, ``asleep``, or empty: it stays.
        why: in words, with the numbers; for a function that stays too.
        kind: which rule said so, whatever the numbers are now.
    """

    to: Literal["host", "own", "asleep", ""]
    why: str
    kind: MoveKind


@dataclass(frozen=True, slots=True)
class TierTerms:
    """What decides on a function's tier and does not change while it is declared so.

    Attributes:
        workers: worker threads that its ``num_cpus`` give it.
        downscale_delay_s, downscale_to_zero_delay_s: as of ``autoscaling``; the second is infinite
            while it is kept awake, and 0 while it is to sleep.
        slo_p95_ms: latency that it promises, in milliseconds; None: none.
        thresholds: where functions change their tier.
    """

    workers: int
    downscale_delay_s: float
    downscale_to_zero_delay_s: float
    slo_p95_ms: float | None = None
    thresholds: Thresholds = DEFAULT

    @classmethod
    def of(cls, spec: DeclaredSpec, workers: int, thresholds: Thresholds) -> TierTerms:
        """As a function is declared."""
        scaling = spec.autoscaling
        return cls(
            workers,
            scaling.downscale_delay_s,
            scaling.downscale_to_zero_delay_s,
            spec.slo.latency_p95_ms,
            thresholds,
        )

    @property
    def promoted_at(self) -> float:
        """Cores of work that promote the function."""
        return self.thresholds.promote_at(self.workers)


@dataclass(frozen=True, slots=True)
class TierHistory:
    """What has become of a function until now. Times are of one clock.

    Attributes:
        tier: that serves it.
        since: when that began to; samples before are of the other tier.
        samples: oldest first; a little more than ``downscale_delay_s`` of them is enough.
        now: the present.
        missing_resources: what a replica of its own lacks, in words; empty when it has room.
        failures: promotions that failed one after another, the last at ``failed_at``.
    """

    tier: Tier
    since: float
    samples: Sequence[UsageSample]
    now: float
    missing_resources: str = ""
    failures: int = 0
    failed_at: float = 0.0


def choose_tier(history: TierHistory, terms: TierTerms) -> TierMove:
    """Decides on a function of ``tier: auto`` that is loaded in the host or has a deployment of its
    own.
    """
    tier, since, now = history.tier, history.since, history.now
    samples = [sample for sample in history.samples if sample.at >= since]
    if not samples or now - samples[-1].at > STALE_S:
        return TierMove(
            "",
            f"{tier}: not seen for {now - (samples[-1].at if samples else since):.0f} s",
            "unseen",
        )
    last = samples[-1]
    if last.sequences:
        return TierMove(
            "",
            f"{tier}: {last.sequences} sequences live and would be lost by a move; "
            "`tier: own` is for a function that always has some",
            "sequences",
        )
    if not last.in_flight and last.idle_s >= terms.downscale_to_zero_delay_s:
        return TierMove(
            "asleep",
            f"{tier} → asleep: no call for {last.idle_s:.0f} s, "
            f"{terms.downscale_to_zero_delay_s:g} s is its delay",
            "asleep",
        )
    if tier == "own":
        return _decide_demotion(samples, now, terms)
    reason, is_promotable = _decide_promotion(samples, now, terms)
    if not is_promotable:
        return TierMove("", f"host: {reason}", "right here")
    failures = history.failures
    if failures and now < history.failed_at + retry_delay_s(failures):
        wait_s = history.failed_at + retry_delay_s(failures) - now
        return TierMove(
            "",
            f"host: {reason}; its promotion failed {failures} times, tried again in {wait_s:.0f} s",
            "promotion failed",
        )
    if history.missing_resources:
        why = f"host: {reason}; no deployment of its own: {history.missing_resources}"
        return TierMove("", why, "no room")
    return TierMove("own", f"host → own: {reason}", "promote")


def retry_delay_s(failures: int) -> float:
    """Seconds after a failed promotion until the next try."""
    return min(MOST_RETRY_S, RETRY_S * 2.0 ** min(failures - 1, 10))


def work_rate(samples: Sequence[UsageSample]) -> float:
    """Cores of work from the first sample to the last: seconds of worker threads by seconds."""
    span = samples[-1].at - samples[0].at
    grown = sum(max(0.0, after.busy_s - before.busy_s) for before, after in pairwise(samples))
    return grown / span if span > 0 else 0.0


def peak_work_rate(samples: Sequence[UsageSample], window_s: float) -> float:
    """The most cores of work in any window of the samples."""
    most, first = 0.0, 0
    for last in range(len(samples)):
        while first < last and samples[first + 1].at <= samples[last].at - window_s:
            first += 1
        if samples[last].at - samples[first].at >= window_s:
            most = max(most, work_rate(samples[first : last + 1]))
    return most


def sample_window(
    samples: Sequence[UsageSample], now: float, window_s: float
) -> Sequence[UsageSample]:
    """The samples of the last ``window_s`` and the one before them, where counting begins; empty
    while there is none so old.
    """
    older = [index for index, sample in enumerate(samples) if sample.at <= now - window_s]
    return samples[older[-1] :] if older else ()


def _decide_promotion(
    samples: Sequence[UsageSample], now: float, terms: TierTerms
) -> tuple[str, bool]:
    """The reason to promote or to stay, and whether it is a reason to promote."""
    threshold, seconds = terms.promoted_at, terms.thresholds.window_s
    recent = sample_window(samples, now, seconds)
    if len(recent) < 2:
        return f"seen for {now - samples[0].at:.1f} s, {seconds:g} s decide", False
    cores = work_rate(recent)
    work_text = f"{cores:.2g} cores of work over {seconds:g} s"
    if cores >= threshold:
        return work_text, True
    pressure = _pressure(recent, terms)
    if not pressure:
        return f"{work_text}, {threshold:g} are promoted", False
    stays_at = terms.thresholds.stay_part * threshold
    if cores < stays_at:
        return (
            f"{pressure}, but {work_text} would be handed back, "
            f"{stays_at:g} would stay; `tier: own` is for this",
            False,
        )
    return f"{pressure}, {work_text}", True


def _pressure(recent: Sequence[UsageSample], terms: TierTerms) -> str:
    """What callers suffer at every sample of the window, in words, or nothing."""
    thresholds, slo_p95_ms = terms.thresholds, terms.slo_p95_ms
    seen = recent[1:]
    if all(sample.waiting_rows > 0 for sample in seen):
        return (
            f"{min(sample.waiting_rows for sample in seen)} rows or more waiting over "
            f"{thresholds.window_s:g} s"
        )
    calls = recent[-1].calls - recent[0].calls
    if slo_p95_ms is None or calls < thresholds.least_calls:
        return ""
    p95_ms = min(sample.p95_ms or 0.0 for sample in seen)
    own_ms = 1000 * (recent[-1].busy_s - recent[0].busy_s) / calls
    # a deployment of its own ends waiting; it does not make a call's own work shorter
    if p95_ms <= slo_p95_ms or own_ms >= slo_p95_ms:
        return ""
    return f"p95 {p95_ms:.0f} ms or more over {thresholds.window_s:g} s, {slo_p95_ms:g} ms promised"


def _decide_demotion(samples: Sequence[UsageSample], now: float, terms: TierTerms) -> TierMove:
    """Demotes to the host, or not yet."""
    below = terms.thresholds.demote_part * terms.promoted_at
    window_s = terms.thresholds.window_s
    seconds = max(terms.downscale_delay_s, window_s)
    seen = sample_window(samples, now, seconds)
    if not seen:
        why = f"own: for {now - samples[0].at:.0f} s, {seconds:g} s decide"
        return TierMove("", why, "right here")
    most = peak_work_rate(seen, window_s)
    work_text = f"at most {most:.2g} cores of work in {seconds:g} s"
    if most >= below or seen[-1].waiting_rows:
        why = f"own: {work_text}, below {below:.2g} it is handed back"
        return TierMove("", why, "right here")
    idle_s = seen[-1].idle_s
    sleeps_in_s = terms.downscale_to_zero_delay_s - idle_s
    if idle_s >= window_s and sleeps_in_s <= terms.downscale_delay_s:
        return TierMove(
            "", f"own: no call for {idle_s:.0f} s, asleep in {sleeps_in_s:.0f} s", "sleeps soon"
        )
    why = f"own → host: {work_text}, below {below:.2g} it is handed back"
    return TierMove("host", why, "demote")
