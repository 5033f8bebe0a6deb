"""The console for everyone: axe-core finds nothing in any view, light, dark and on a phone; what moves
stands still where that is asked for; nothing is wider than a phone.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import browser
from tests.deployments.local.running import shell
from tests.runtime.http.catalogue.console.console_page import (
    click,
    go,
    needs_browser,
    opened,
    put_to_sleep,
    served,
    wait_for_text,
    write,
)

pytestmark = [pytest.mark.slow, pytest.mark.full, needs_browser]  # `test_overview_page.py` in few

AXE = Path(__file__).parent / "axe.min.js"

LOOKS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]

VIEWS = {
    "overview": ("#/", "!!document.querySelector('.grid-body .grid-row')"),
    "groups": ("#/?group=state&sort=calls", "!!document.querySelector('.grid-row.group')"),
    "nothing found": ("#/?q=nothing", "document.body.innerText.includes('No function matches')"),
    "function": (
        "#/functions/mean",
        "document.querySelectorAll('.chart canvas').length >= 3"
        " && !!document.querySelector('.node')",
    ),
    "asleep": ("#/functions/twice", "!!document.querySelector('.node.function')"),
    "try it": ("#/functions/mean/try", "!!document.querySelector('main form, main textarea')"),
}

OPENED = {
    "function": "document.querySelector('.node.model').click();"
    "document.querySelector('.numbers summary').click();"
    "document.querySelector('section[aria-labelledby=settings-title] button')?.click()",
}
"""What is opened as well, by view."""


def violations(page: browser.Page) -> list[str]:
    """What axe-core has to complain of."""
    if not page.evaluate("!!window.axe"):
        page.evaluate(AXE.read_text())
    found: list[str] = page.evaluate(
        "axe.run(document, {resultTypes: ['violations']}).then((found) => found.violations.flatMap("
        "(one) => one.nodes.map((node) => `${one.id}: ${node.target} ${node.failureSummary}`)))"
    )
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page, with calls and a failed one."""
    with (
        served(tmp_path_factory.mktemp("seen")) as run,
        opened(run.url, tmp_path_factory.mktemp("browser")) as page,
    ):
        yield page


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_for_everyone(page, view, tmp_path):
    """In each of its looks."""
    page.look(1280, "light")
    fragment, is_there = VIEWS[view]
    go(page, fragment)
    page.wait_for(is_there)
    page.evaluate(OPENED.get(view, "0"))
    for width, scheme in LOOKS:
        page.look(width, scheme)
        page.wait_for(is_there)
        page.screenshot(tmp_path / f"{view}-{width}-{scheme}.png")
        assert violations(page) == [], (view, width, scheme)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (view, width)
    assert page.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_wrong_is_for_everyone(tmp_path, scheme):
    """A function that failed, and a server that is gone."""
    with shell(tmp_path) as project:
        broken = write(project)
        with project.serving() as run, opened(run.url, tmp_path, "#/functions/fragile") as page:
            page.look(1280, scheme)
            put_to_sleep(run.url, "fragile")
            broken.touch()
            click(page, "Wake")
            wait_for_text(page, ".function-title .state", "Failed")
            page.wait_for("!!document.querySelector('main [role=alert]')")
            assert violations(page) == []
            go(page, "#/")
            page.wait_for("!!document.querySelector('.grid-row.failed')")
            assert violations(page) == []
            run.process.terminate()
            run.process.wait(60)
            wait_for_text(page, ".connection", "Reconnecting")
            assert violations(page) == []


def test_what_moves_stands_still(page):
    """For a reader that asks for it."""
    page.command(
        "Emulation.setEmulatedMedia",
        features=[{"name": "prefers-reduced-motion", "value": "reduce"}],
    )
    go(page, "#/")
    page.wait_for("!!document.querySelector('.dot')")
    moving = "[...document.querySelectorAll('*')].filter((one) => one.getAnimations().length)"
    assert page.evaluate(f"{moving}.length") == 0
    assert page.evaluate("matchMedia('(prefers-reduced-motion: reduce)').matches")
