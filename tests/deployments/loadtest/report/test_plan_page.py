"""A plan as HTML: its numbers need no script, its texts are never markup; and how a browser shows
it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from deployments.loadtest.report import write_plan
from deployments.scaling.planning.costs import Prices
from deployments.scaling.planning.needs import make_plan
from deployments.scaling.planning.traffic import steady_traffic
from deployments.scaling.planning.traffic_plan import MachineSize, TrafficPlan
from tests import browser
from tests.deployments.loadtest.report.test_page import HOSTILE, Reader, tame_texts
from tests.deployments.loadtest.report.test_report_in_browser import BACKGROUND, SHOWN
from tests.deployments.scaling.planning.made_profiles import declare, profile_of

pytestmark = pytest.mark.slow

SPECS = {
    "busy": declare("busy", slo={"latency_p95_ms": 30, "warm": 0.9}),
    "rare": declare("rare", resources={"num_gpus": 0.5}, autoscaling={"min_replicas": 1}),
}
PROFILE = profile_of(*SPECS.values(), gpu_memory_mb=900)


def make() -> TrafficPlan:
    """Of two functions, one of which has a share of a GPU, with prices."""
    size = MachineSize(cores=2, memory_bytes=8_000_000_000, gpus=1)
    traffic = steady_traffic({"busy": 20.0, "rare": 0.2}, 60.0, seed=1)
    return make_plan(SPECS, PROFILE, traffic, size, Prices(cpu=0.04, gpu=1.2))


def page(plan: TrafficPlan, folder, doubts=()) -> str:
    """Its text."""
    write_plan(plan, PROFILE, doubts, folder / "plan.html")
    return (folder / "plan.html").read_text(encoding="utf-8")


def test_a_plan_is_a_page(tmp_path):
    """What is promised beside what comes, the table, costs with those of GPUs, each function over
    time, doubts and notes, all as text.
    """
    read = Reader(page(make(), tmp_path, ["another machine"]))
    for expected in (
        *("PASS", "It holds.", "p95 ≤ 30 ms", "warm ≥ 90 %", "busy", "rare", "1 x 0.5"),
        *("another machine", "a month, used", "438.00 of it for GPUs", "0 s to 1 s"),
        *("Found warm", "About this plan", "a range is that of 5 runs", "2 cores, 8 GB, 1 GPU"),
    ):
        assert expected in read.text, expected
    assert all(address.startswith(("#", "data:")) for address in read.addresses), read.addresses


@pytest.mark.full
def test_no_text_of_a_plan_is_markup(tmp_path):
    """A page whose every name is hostile has the elements and attributes of a harmless one."""
    plan = make()

    def named(texts) -> str:
        first, second = (
            replace(one, function=texts[number]) for number, one in enumerate(plan.functions)
        )
        hostile = replace(plan, functions=(first, second), traffic=texts[2], notes=tuple(texts))
        return page(hostile, tmp_path, texts)

    read, tame = Reader(named(HOSTILE)), Reader(named(tame_texts(HOSTILE)))
    assert read.shape == tame.shape
    assert all(address.startswith(("#", "data:")) for address in read.addresses)


@pytest.mark.full
def test_a_plan_that_was_run_once_and_has_no_calls_is_a_page(tmp_path):
    """Without ranges, prices and promises; what is missing is a dash."""
    plan = make()
    quiet = replace(
        plan.functions[1],
        calls=0,
        rate=0.0,
        ranges={},
        promised={},
        used=None,
        moments=tuple(
            replace(moment, rate=0.0, places=0.0, p95_s=None, warm=None)
            for moment in plan.functions[1].moments
        ),
    )
    read = Reader(page(replace(plan, functions=(quiet,), used=None, whole=None, runs=1), tmp_path))
    assert "What is promised" not in read.text
    assert "–" in read.text


@pytest.mark.skipif(browser.CHROMIUM is None, reason="needs the Debian package chromium")
def test_a_plan_is_seen(tmp_path):
    """Plots have the colours of the scheme and fit a phone; the arrow keys read the moments; nothing
    is asked of the network.
    """
    path = tmp_path / "plan.html"
    page(make(), tmp_path)
    with browser.opened(path.as_uri(), tmp_path / "profile") as tab:
        tab.wait_for(SHOWN)
        seen = set()
        for width, scheme in ((1200, "light"), (375, "dark")):
            tab.look(width, scheme)
            shown = "narrow" if width < 500 else "wide"
            tab.wait_for(f"document.querySelector('.plot.{shown}').offsetWidth > 0")
            assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
            line = (
                f"getComputedStyle(document.querySelector('.plot.{shown} .series-p95 path')).stroke"
            )
            seen |= {tab.evaluate(BACKGROUND), tab.evaluate(line)}
            tab.screenshot(tmp_path / f"{scheme}-{width}.png")
        assert len(seen) == 4, seen

        tab.look(1200, "light")
        tab.evaluate("document.querySelector('.plots[data-table]').focus()")
        tab.press("ArrowRight")
        readout = "document.querySelector('.plots[data-table] .readout')"
        said = tab.wait_for(f"!{readout}.hidden && {readout}.innerText")
        assert "Found warm" in said
        assert tab.complaints == []
        assert [url for url in tab.requests if not url.startswith("data:")] == [path.as_uri()]
