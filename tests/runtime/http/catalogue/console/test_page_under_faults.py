"""The console while things go wrong: a function that fails as it is watched, a server that ends and
begins anew, a key that is wanted.
"""

from __future__ import annotations

import signal

import httpx
import pytest

from tests import browser, serving
from tests.deployments.local.running import shell
from tests.runtime.http.catalogue.console.console_page import (
    LIVE,
    click,
    go,
    needs_browser,
    opened,
    put_to_sleep,
    text_of,
    wait_for_text,
    write,
)

pytestmark = [pytest.mark.slow, pytest.mark.full, needs_browser]  # `test_overview_page.py` in few

STATE = ".function-title .state"


def of_the_way(complaints: list[str]) -> list[str]:
    """What a page says that it cannot help: the browser names each response that failed."""
    return [one for one in complaints if not one.startswith("Failed to load resource")]


def test_a_function_fails_while_it_is_watched(tmp_path):
    """The page shows that it failed, and why; whole again, it wakes by the same button."""
    with shell(tmp_path) as project:
        broken = write(project)
        with (
            project.serving() as run,
            opened(run.url, tmp_path, "#/functions/fragile") as page,
        ):
            put_to_sleep(run.url, "fragile")
            wait_for_text(page, STATE, "Asleep")
            broken.touch()
            click(page, "Wake")
            wait_for_text(page, STATE, "Failed")
            wait_for_text(page, "main > .note.bad", "crystal")
            wait_for_text(page, "main [role=alert]", "crystal")
            broken.unlink()
            page.wait_for(WAKE_UNTIL_READY)  # it is not tried again at once
            page.wait_for("!document.querySelector('main .note.bad')")
            assert of_the_way(page.complaints) == []


WAKE_UNTIL_READY = """(() => {
  const button = document.querySelector('.actions .primary:not(:disabled)');
  button?.click();
  return document.querySelector('.function-title .state').innerText.includes('Ready');
})()"""


def test_a_server_begins_anew_under_the_page(tmp_path):
    """The page says that it is cut off, keeps what it knows, and goes on with the next server, whose
    token it has then.
    """
    port = ("--port", str(serving.free_port()))
    with shell(tmp_path) as project:
        write(project)
        with project.serving(*port) as run:
            url = run.url
            put_to_sleep(url, "double")
            with opened(url, tmp_path, "#/functions/double") as page:
                wait_for_text(page, STATE, "Asleep")
                run.process.send_signal(signal.SIGTERM)
                run.process.wait(60)
                wait_for_text(page, ".connection", "Reconnecting")
                assert "out of date" in text_of(page, ".connection-note")
                assert "Asleep" in text_of(page, STATE)
                with project.serving(*port) as again:
                    assert again.url == url
                    page.wait_for(LIVE)
                    page.wait_for("!document.querySelector('.connection-note')")
                    click(page, "Sleep")
                    wait_for_text(page, STATE, "Asleep")
                    assert of_the_way(page.complaints) == []


def test_a_page_that_is_not_seen_rests(tmp_path):
    """After a while without eyes it lets its connection go, and has another once it is seen."""
    with shell(tmp_path) as project:
        write(project)
        with project.serving() as run, opened(run.url, tmp_path) as page:
            page.evaluate(HIDE)
            wait_for_text(page, ".connection", "Paused")
            page.evaluate("document.isHidden = false")
            page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
            page.wait_for(LIVE)
            assert page.complaints == []


HIDE = """
const begin = window.setTimeout;
window.setTimeout = (act, ms, ...more) => begin(act, ms === 60000 ? 0 : ms, ...more);
document.isHidden = true;
Object.defineProperty(document, "hidden", {get: () => document.isHidden});
void document.dispatchEvent(new Event("visibilitychange"));
"""
"""As if the tab was hidden for a minute."""


@pytest.fixture(scope="module")
def keyed(tmp_path_factory):
    """A server that asks for keys; gives its URL, and keys by name."""
    with shell(tmp_path_factory.mktemp("keyed")) as project:
        write(project)
        file = project.folder / "serve_config.yaml"
        file.write_text("http: {auth: {file: keys.json}}\n" + file.read_text())
        scopes = {"looks": "look", "all": "call,look,operate", "calls": "call"}
        keys = {}
        for name, scope in scopes.items():
            made = project.run("keys", "add", name, "--scope", scope)
            assert made.returncode == 0, made.stderr
            keys[name] = made.stdout.strip()
        with project.serving() as run:
            put_to_sleep(run.url, "double", **{"x-api-key": keys["all"]})
            yield run.url, keys


def give_key(page, text):
    """Type a key into the box."""
    page.wait_for("document.querySelector('.key-box')?.open")
    page.evaluate("document.querySelector('.key-box input').select()")
    page.evaluate("document.querySelector('.key-box input').focus()")
    page.write(text)
    click(page, "Use this key")


def test_a_key_is_asked_for(keyed, tmp_path):
    """Nothing is shown without one; a wrong one is refused with words; with one that may look there
    is all, but no button that changes anything.
    """
    url, keys = keyed
    with browser.opened(f"{url}/console#/functions/double", tmp_path / "profile") as page:
        page.wait_for("document.querySelector('.key-box')?.open")
        assert "double" not in text_of(page, ".key-box")
        give_key(page, "wk_" + "x" * 43)
        wait_for_text(page, ".key-box [role=alert]", "does not know this key")
        give_key(page, keys["calls"])
        page.wait_for("!!document.querySelector('.key-box [role=alert]')")
        give_key(page, keys["looks"])
        page.wait_for(LIVE)
        page.wait_for("!document.querySelector('.key-box').open")
        wait_for_text(page, STATE, "Asleep")
        assert page.evaluate("document.querySelectorAll('.actions button').length") == 0
        assert keys["looks"] not in page.evaluate("document.documentElement.outerHTML")
        assert of_the_way(page.complaints) == []


def test_a_key_that_may_operate(keyed, tmp_path):
    """Its page wakes the function; the key is kept for a reload of the tab."""
    url, keys = keyed
    with browser.opened(f"{url}/console#/functions/double", tmp_path / "profile") as page:
        give_key(page, keys["all"])
        page.wait_for(LIVE)
        click(page, "Wake")
        wait_for_text(page, STATE, "Ready")
        wait_for_text(page, ".bar", "Key: all")
        page.command("Page.reload")
        page.wait_for(LIVE)
        wait_for_text(page, STATE, "Ready")
        header = {"x-api-key": keys["all"]}
        assert httpx.get(f"{url}/console/session", headers=header, timeout=60).status_code == 200
        go(page, "#/")
        page.wait_for("!!document.querySelector('.grid')")
