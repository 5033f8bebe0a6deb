"""The report in a browser: light, dark and on a phone, by keyboard, with hostile names, asking nothing
of the network.
"""

from __future__ import annotations

import dataclasses

import pytest

from deployments.loadtest.report import write_report
from deployments.loadtest.results.verdict import judge
from tests import browser
from tests.deployments.loadtest.made_runs import EMBED, make_run
from tests.deployments.loadtest.report.test_page import HOSTILE, hostile_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.CHROMIUM is None, reason="needs the Debian package chromium"),
]

SHOWN = "document.readyState === 'complete' && !!document.querySelector('.plot.wide svg')"
BACKGROUND = "getComputedStyle(document.body).backgroundColor"


def test_a_report_is_seen(tmp_path):
    """Charts have the colours of the scheme and fit a phone; the arrow keys read the windows; a
    percentile can be switched off; nothing is asked of the network.
    """
    run = make_run(EMBED, seconds=60)
    path = tmp_path / "report.html"
    slower = dataclasses.replace(EMBED, service_ms=5, promise=None)
    write_report(run, judge(run), path, make_run(slower, seconds=60, seed=2))
    with browser.opened(path.as_uri(), tmp_path / "profile") as page:
        page.wait_for(SHOWN)
        seen = set()
        for width, scheme in ((1200, "light"), (1200, "dark"), (375, "dark"), (375, "light")):
            page.look(width, scheme)
            shown = "narrow" if width < 500 else "wide"
            page.wait_for(f"document.querySelector('.plot.{shown}').offsetWidth > 0")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
            line = (
                f"getComputedStyle(document.querySelector('.plot.{shown} .series-p95 path')).stroke"
            )
            seen.add((scheme, page.evaluate(BACKGROUND), page.evaluate(line)))
            page.screenshot(tmp_path / f"{scheme}-{width}.png")
        assert len(seen) == 2, seen
        assert len({part for one in seen for part in one}) == 6

        page.look(1200, "light")
        page.evaluate("document.querySelector('.plots[data-table]').focus()")
        for _ in range(3):
            page.press("ArrowRight")
        readout = "document.querySelector('.plots[data-table] .readout')"
        said = page.wait_for(f"!{readout}.hidden && {readout}.innerText")
        rows = "[...document.querySelectorAll('#function-1-windows tbody tr')]"
        third = page.evaluate(f"[...{rows}[2].cells].map(cell => cell.textContent)")
        assert all(cell in said for cell in third)
        page.press("Escape")
        page.wait_for(f"{readout}.hidden")

        page.evaluate("document.querySelector('[data-series=p99]').click()")
        gone = "getComputedStyle(document.querySelector('.plot.wide .series-p99')).display"
        assert page.evaluate(gone) == "none"
        assert page.complaints == []
        assert {url.partition(":")[0] for url in page.requests} <= {"file", "data"}
        assert [url for url in page.requests if url.startswith("file")] == [path.as_uri()]


def test_a_hostile_server_gets_no_script_run(tmp_path):
    """Whatever it names its errors and stages, and however its functions are called."""
    run = hostile_run(HOSTILE)
    path = tmp_path / "report.html"
    write_report(run, judge(run), path, run)
    with browser.opened(path.as_uri(), tmp_path / "profile") as page:
        page.wait_for(SHOWN)
        for element in ("summary", ".plots[data-table]", ".key"):
            page.evaluate(f"document.querySelectorAll('{element}').forEach(one => one.click())")
        page.evaluate("document.querySelector('.plots[data-table]').focus()")
        page.press("ArrowRight")
        assert page.evaluate("typeof window.pwned") == "undefined"
        assert page.evaluate("document.scripts.length") == 1
        assert page.complaints == []
        assert [url for url in page.requests if not url.startswith("data:")] == [path.as_uri()]
