"""The overview in a browser: all functions as they are now, found and sorted, by hand and by keys."""

from __future__ import annotations

import httpx
import pytest

from tests.runtime.http.catalogue.console.console_page import (
    go,
    import_of,
    needs_browser,
    opened,
    served,
    wait_for_names,
    wait_for_text,
)

pytestmark = [pytest.mark.slow, needs_browser]

NAMES = ("double", "fragile", "mean", "twice")
ROW = ".grid-row:has(a[href='#/functions/{name}'])"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The functions."""
    with served(tmp_path_factory.mktemp("overview")) as run:
        yield run


@pytest.fixture(scope="module")
def opened_page(run, tmp_path_factory):
    """The page, which all tests here share."""
    with opened(run.url, tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture
def page(opened_page):
    """The page at its beginning; what a script complains of fails the test."""
    opened_page.look(1280, "light")
    go(opened_page, "#/?")
    go(opened_page, "#/")
    wait_for_names(opened_page, *NAMES)
    yield opened_page
    assert opened_page.complaints == []


def test_a_state_is_followed(page, run):
    """A function that another client wakes is ready on the page, without a reload; nothing is
    asked of another host.
    """
    row = ROW.format(name="double")
    wait_for_text(page, row, "Asleep")
    wait_for_text(page, ROW.format(name="mean"), "Ready")
    answer = httpx.post(f"{run.url}/v2/models/double", json={"x": [1, 2, 3]}, timeout=60)
    assert answer.status_code == 200
    wait_for_text(page, row, "Ready")
    assert {url.partition("/console")[0] for url in page.requests} <= {run.url, "data:,"}


@pytest.mark.full
def test_calls_are_counted(page, run):
    """And drawn as a small line, with how many failed."""
    row = ROW.format(name="mean")
    with httpx.Client(timeout=60) as client:
        for values in ([1, 2], [13]):
            client.post(f"{run.url}/v2/models/mean", json={"values": values})
    wait_for_text(page, row, "/s")
    page.wait_for(f"!!document.querySelector({row!r}).querySelector('.spark path')")
    page.wait_for(
        f"document.querySelector({row!r}).querySelector('.errors span')?.title === '1 bad_request'"
    )


@pytest.mark.full
def test_functions_are_found(page):
    """By a text, by state, in groups; the address says it all, so that it can be kept."""
    page.press("/")
    page.wait_for("document.activeElement.type === 'search'")
    page.write("numbers")
    wait_for_names(page, "mean")
    page.wait_for("location.hash === '#/?q=numbers'")
    page.press("Escape")
    wait_for_names(page, *NAMES)
    page.evaluate("document.querySelector('.filters .ready').click()")
    page.wait_for("document.querySelector('.filters .ready').ariaPressed === 'true'")
    page.wait_for("!document.querySelector('.grid-row.asleep')")
    go(page, "#/?group=state")
    page.wait_for("!!document.querySelector('.grid-row.group')")
    groups = "[...document.querySelectorAll('.grid-row.group')]"
    assert page.evaluate(f"{groups}.map((one) => one.innerText.split('\\n')[0])")
    page.evaluate(f"{groups}.at(-1).querySelector('button').click()")
    page.wait_for(f"{groups}.at(-1).querySelector('button').ariaExpanded === 'false'")
    go(page, "#/?q=no+such+thing")
    wait_for_text(page, "main", "No function matches.")


@pytest.mark.full
def test_functions_are_sorted(page):
    """By a head of a column, which once more turns the order."""
    head = "document.querySelector('[role=columnheader].name button')"
    page.evaluate(f"{head}.click()")
    page.wait_for("document.querySelector('[role=columnheader].name').ariaSort === 'descending'")
    wait_for_names(page, *reversed(NAMES))
    page.evaluate("document.querySelector('[role=columnheader].memory button').click()")
    page.wait_for("document.querySelector('[role=columnheader].memory').ariaSort === 'descending'")
    page.wait_for("location.hash === '#/?sort=memory'")


@pytest.mark.full
def test_keys_lead_everywhere(page):
    """From the search down the rows, into a function, and back."""
    focused = "document.activeElement.querySelector?.('.cell.name a')?.innerText"
    page.press("/")
    page.press("ArrowDown")
    page.wait_for(f"{focused} === 'double'")
    page.press("ArrowDown")
    page.wait_for(f"{focused} === 'fragile'")
    page.press("End")
    page.wait_for(f"{focused} === 'twice'")
    page.press("Home")
    page.wait_for(f"{focused} === 'double'")
    page.press("Enter")
    page.wait_for("document.querySelector('main h1').innerText === 'double'")
    page.wait_for("document.activeElement === document.querySelector('main h1')")
    page.press("Escape")
    page.wait_for("!!document.querySelector('.grid')")


@pytest.mark.full
def test_a_thousand_functions_scroll(run, tmp_path):
    """Few rows are drawn wherever one is, those that are seen among them; the last is reached by a
    key.
    """
    with opened(run.url, tmp_path) as page:
        wait_for_names(page, *NAMES)
        import_of(page, "live/store.js", MULTIPLY)
        page.wait_for("document.querySelector('.grid').ariaRowCount > 1000")
        for share in (0.1, 0.5, 0.93, 1, 0):
            page.evaluate(f"scrollTo(0, document.documentElement.scrollHeight * {share})")
            page.wait_for(SEEN_IS_DRAWN)
            assert page.evaluate("document.querySelectorAll('.grid-row').length") < 90
        page.press("/")
        page.press("ArrowDown")
        page.wait_for("document.activeElement.getAttribute('role') === 'row'")
        page.press("End")
        page.wait_for("document.activeElement.innerText.includes('z0999')")
        page.wait_for("document.activeElement.getBoundingClientRect().bottom <= innerHeight + 1")
        assert page.complaints == []


MULTIPLY = """it.takeEvents([{event: 'functions', data: JSON.stringify({
  all: true,
  functions: Array.from({length: 1000}, (_, at) => ({
    ...it.functions.value.get('mean'), name: `z${String(at).padStart(4, '0')}`,
  })),
})}])"""
"""As if so many were declared; to load them all would take half a minute. Those that the server has
come back with their next numbers, before these.
"""

SEEN_IS_DRAWN = """(() => {
  const head = document.querySelector('.grid-head').getBoundingClientRect();
  const last = document.querySelector('.grid-body').getBoundingClientRect().bottom;
  const from = Math.max(head.bottom, 0) + 5;
  const to = Math.min(innerHeight, last) - 5;
  for (let y = from; y < to; y += 20) {
    if (!document.elementFromPoint(300, y)?.closest('.grid-row')) return false;
  }
  return true;
})()"""
