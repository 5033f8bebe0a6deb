"""The page of a function in a browser: what it is, what it does, and what is done to it."""

from __future__ import annotations

import httpx
import pytest

from tests.runtime.http.catalogue.console.console_page import (
    click,
    go,
    needs_browser,
    opened,
    served,
    text_of,
    wait_for_text,
)

pytestmark = [pytest.mark.slow, pytest.mark.full, needs_browser]  # `test_overview_page.py` in few

STATE = ".function-title .state"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The functions."""
    with served(tmp_path_factory.mktemp("function")) as run:
        yield run


@pytest.fixture(scope="module")
def opened_page(run, tmp_path_factory):
    """The page, which all tests here share."""
    with opened(run.url, tmp_path_factory.mktemp("browser"), "#/functions/mean") as page:
        yield page


@pytest.fixture
def page(opened_page):
    """The page; what a script complains of fails the test."""
    opened_page.look(1280, "light")
    opened_page.complaints.clear()
    yield opened_page
    assert opened_page.complaints == []


def test_what_a_function_is(page):
    """Its graph with a stage's details, its signature, and its settings with where they are from."""
    go(page, "#/functions/mean")
    page.wait_for("document.querySelectorAll('.node').length === 5")
    labels = page.evaluate("[...document.querySelectorAll('.node-label')].map((o) => o.innerText)")
    assert {"tensors", "model", "answer"} <= set(labels)
    assert page.evaluate("document.querySelectorAll('.graph .edge').length") >= 4
    page.evaluate("document.querySelector('.node.model').click()")
    wait_for_text(page, ".node-detail", "mean.onnx")
    assert "Device\ncpu" in text_of(page, ".node-detail")
    signature = text_of(page, "section[aria-labelledby=signature-title]")
    assert all(name in signature for name in ("values", "unit", "optional", "label"))
    settings = text_of(page, "section[aria-labelledby=settings-title]")
    assert "batching.max_batch_size" in settings
    assert "serve_config.yaml:" in settings
    assert "default" not in settings.replace("defaults", "")
    page.evaluate(
        "document.querySelector('section[aria-labelledby=settings-title] button').click()"
    )
    wait_for_text(page, "section[aria-labelledby=settings-title]", "limits.request_timeout_s")


def test_a_called_function_is_one_step_away(page):
    """From the stage that calls it."""
    go(page, "#/functions/twice")
    page.wait_for("!!document.querySelector('.node.function')")
    page.evaluate("document.querySelector('.node.function').click()")
    page.wait_for("!!document.querySelector('.node-detail a')")
    page.evaluate("document.querySelector('.node-detail a').click()")
    page.wait_for("document.querySelector('main h1')?.innerText === 'double'")
    page.wait_for("document.title === 'double · Wakeful'")


def test_each_action_and_what_follows(page):
    """Wake, pin, unpin and sleep; the state and the decisions follow, and a screen reader hears of
    it.
    """
    go(page, "#/functions/double")
    wait_for_text(page, STATE, "Asleep")
    click(page, "Wake")
    wait_for_text(page, STATE, "Ready")
    page.wait_for("!!document.querySelector('.decisions li')")
    click(page, "Pin")
    wait_for_text(page, ".function-title", "kept awake")
    click(page, "Unpin")
    page.wait_for("!document.querySelector('.function-title').innerText.includes('kept')")
    click(page, "Sleep")
    wait_for_text(page, STATE, "Asleep")
    page.wait_for("document.querySelector('[aria-live=polite].visually-hidden').innerText !== ''")


def test_calls_are_seen(page, run):
    """In the plots and as a table; a failed call with what it was told, and what the function wrote
    as it writes it.
    """
    go(page, "#/functions/fragile")
    page.wait_for("document.querySelectorAll('.chart canvas').length >= 3")
    url = f"{run.url}/v2/models/fragile"
    with httpx.Client(timeout=60) as client:
        assert client.post(url, json={"text": "<b>bold</b>"}).json() == {"said": "<b>bold</b>"}
        failed = client.post(url, json={"text": "fail"})
    assert failed.status_code == 500
    wait_for_text(page, ".log", "heard <b>bold</b>")
    wait_for_text(page, ".log", "that was too much")
    wait_for_text(page, ".failed-calls", failed.json()["request_id"])
    assert failed.json()["code"] in text_of(page, ".failed-calls")
    page.evaluate("document.querySelector('.numbers summary').click()")
    page.wait_for("document.querySelectorAll('.numbers tbody tr').length > 1")
    page.wait_for("document.querySelector('.chart').ariaLabel.startsWith('Calls.')")
    click(page, "6 h")
    page.wait_for("document.querySelector('.segments [aria-pressed=true]').innerText === '6 h'")
    page.wait_for("document.querySelectorAll('.chart canvas').length >= 3")
    click(page, "30 min")


def test_the_log_is_searched(page, run):
    """Lines without the text are left out."""
    go(page, "#/functions/fragile")
    for word in ("sparrow", "heron"):
        httpx.post(f"{run.url}/v2/models/fragile", json={"text": word}, timeout=60)
    wait_for_text(page, ".log", "heard heron")
    page.evaluate("document.querySelector('[aria-label=\"Filter the log\"]').focus()")
    page.write("sparrow")
    page.wait_for("!document.querySelector('.log').innerText.includes('heron')")
    wait_for_text(page, ".log", "heard sparrow")


def test_a_function_that_is_not_there(page):
    """The page says so, in the server's words, and the overview goes on."""
    go(page, "#/functions/nothing")
    page.wait_for("!!document.querySelector('main [role=alert]')")
    page.complaints.clear()  # the browser names each response of 404
    go(page, "#/")
    page.wait_for("document.querySelectorAll('.grid-body .grid-row').length === 4")
