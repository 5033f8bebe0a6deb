"""Functions called from the console: forms, files, sounds, streams, errors; what is shown of the
answers; and the same calls by the programs that the page writes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import browser, file_stages, odd_types
from tests.browser import Page
from tests.deployments.local.running import ROOT, shell
from tests.runtime.http.catalogue.console.console_page import (
    LIVE,
    click,
    go,
    needs_browser,
    opened,
    text_of,
    wait_for_text,
)
from tests.runtime.http.catalogue.console.test_accessibility import LOOKS, violations
from tests.runtime.http.catalogue.console.test_page_under_faults import give_key

pytestmark = [pytest.mark.slow, needs_browser]

FUNCTIONS: dict[str, dict[str, Any]] = {
    "spot": {
        "graph": [{"stage": "spot", "python": "tests.try_stages:spot"}],
        "accepts": ["image/*"],
    },
    "hear": {
        "graph": [{"stage": "hear", "python": "tests.try_stages:hear"}],
        "accepts": ["audio/*"],
    },
    "tell": {"graph": [{"stage": "tell", "python": "tests.try_stages:tell"}]},
    "look": {
        "graph": [{"stage": "look", "python": "tests.odd_types:look"}],
        "example": odd_types.EXAMPLE,
    },
    "whole": {"graph": [{"stage": "whole", "python": "tests.odd_types:whole"}]},
    "add": {"graph": [{"stage": "add", "python": "tests.odd_types:add"}], "sequences": {}},
    "vector": {
        "graph": [{"stage": "embed", "python": "tests.odd_types:embed"}],
        "task": "embedding",
        "example": {"text": "two words"},
    },
    "picture": {"graph": file_stages.GRAPHS["picture"]},
    "beep": {"graph": file_stages.GRAPHS["beep"]},
}

READY = "!!document.querySelector('.try-request button[type=submit]:not(:disabled)')"
ANSWERED = (
    "document.querySelector('.try-result')?.ariaBusy === 'false'"
    " && Number(document.querySelector('.try-result').dataset.call) === {number}"
)


def declare(folder: Path, **more: Any) -> None:
    """The file with the functions."""
    applications: list[dict[str, Any]] = [
        {"name": "catalogue", "route_prefix": "/", "import_path": "deployments:catalogue"}
    ]
    applications += [{"name": name, "args": args} for name, args in FUNCTIONS.items()]
    (folder / "serve_config.yaml").write_text(json.dumps({"applications": applications, **more}))


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The functions; gives the URL."""
    with shell(folder) as project:
        declare(folder)
        with project.serving() as run:
            yield run.url


def try_it(page: Page, name: str) -> None:
    """The form of a function, at its beginning."""
    go(page, f"#/functions/{name}")
    page.wait_for(f"document.querySelector('h1')?.innerText === {name!r}")
    page.wait_for("!document.querySelector('.try')")
    go(page, f"#/functions/{name}/try")
    page.wait_for(READY)


def type_into(page: Page, name: str, text: str) -> None:
    """A text, in place of what a field has."""
    page.evaluate(
        f"(() => {{ const field = document.getElementById('try-{name}');"
        " const own = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), 'value');"
        f" own.set.call(field, {json.dumps(text)});"
        " field.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def call(page: Page) -> str:
    """Call it; what is shown of the answer."""
    number = begin(page)
    page.wait_for(ANSWERED.format(number=number))
    return text_of(page, ".try-result")


def begin(page: Page) -> int:
    """Call it; the number of the call."""
    before = page.evaluate("Number(document.querySelector('.try-result')?.dataset.call ?? 0)")
    click(page, "Call")
    return int(before) + 1


def refuse(page: Page, field: str, words: str) -> None:
    """It is not called: a field is wrong."""
    click(page, "Call")
    wait_for_text(page, f"#try-{field}-fault", words)


def raw(page: Page) -> Any:
    """The answer as it came."""
    click(page, "Raw")
    page.wait_for("!!document.querySelector('.try-raw pre')")
    found = json.loads(text_of(page, ".try-raw pre"))
    click(page, "Readable")
    return found


def program(page: Page, kind: str) -> str:
    """What the page writes for a program."""
    click(page, kind)
    page.wait_for(
        f"[...document.querySelectorAll('.try-programs [aria-pressed=true]')]"
        f".some((one) => one.innerText === {kind!r})"
    )
    return text_of(page, ".try-programs pre")


def run_program(page: Page, kind: str, folder: Path, **more: str) -> str:
    """What that prints in a folder with the files, as a user pastes it, with more variables."""
    text = program(page, kind)
    command = ["sh", "-c", text] if kind == "curl" else [sys.executable, "-c", text]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{text}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The console."""
    with (
        served(tmp_path_factory.mktemp("tried")) as url,
        opened(url, tmp_path_factory.mktemp("browser")) as page,
    ):
        yield page


def test_a_picture_with_places_on_it(page, tmp_path):
    """It is sent as the body, or with another field in a form; places are drawn upon it; the bar
    has the time of the call; programs that the page writes get the same answer.
    """
    path = tmp_path / "it's a picture.png"
    path.write_bytes(file_stages.PNG)
    try_it(page, "spot")
    click(page, "Remove")  # three bytes that were made up
    refuse(page, "image", "A file is wanted.")
    assert not text_of(page, ".try-result")
    page.give_file("#try-image", path)
    page.wait_for("document.querySelector('.try-thumb')?.naturalWidth === 8")
    shown = call(page)
    assert "200" in shown
    wait_for_text(page, ".try-result", "2 found")
    page.wait_for("document.querySelectorAll('.try-box polygon').length === 2")
    assert page.evaluate("document.querySelector('.try-box polygon').getAttribute('points')") == (
        "1,1 5,1 5,5 1,5"
    )
    assert "Network and browser" in shown
    assert page.evaluate("document.querySelectorAll('.try-stage').length") >= 2
    answer = raw(page)
    assert answer["size"] == len(file_stages.PNG)
    assert "--data-binary" in program(page, "curl")
    assert json.loads(run_program(page, "curl", tmp_path)) == answer

    type_into(page, "least", "0.7")
    call(page)
    answer = raw(page)
    assert [one["label"] for one in answer["objects"]] == ["cat"]
    assert " -F " in program(page, "curl")
    assert json.loads(run_program(page, "curl", tmp_path)) == answer
    type_into(page, "least", "1,5")
    refuse(page, "least", "A number is wanted")
    type_into(page, "least", "7")
    refuse(page, "least", "1 at most.")
    assert page.complaints == []


full = pytest.mark.full  # the test above shows one of each in little


@full
def test_a_form_of_many_types(page, tmp_path):
    """Filled with the example, which is right; what the server refuses stands at its field."""
    try_it(page, "look")
    shown = call(page)
    assert "200" in shown
    answer = raw(page)
    assert answer["day"] == "2026-02-28"
    for kind in ("curl", "Python"):
        assert "second" in run_program(page, kind, tmp_path), kind
    type_into(page, "day", "tomorrow")
    call(page)
    page.wait_for("!!document.querySelector('#try-day-fault')")
    assert "400" in text_of(page, ".try-result")
    assert page.evaluate("document.activeElement === document.body") is False
    # a refusal is a failed request, of which browsers write a line
    assert all("400" in one for one in page.complaints), page.complaints
    page.complaints.clear()


@full
def test_json_and_a_header(page, tmp_path):
    """A field of many values is JSON, and the whole request may be; a header that a stage needs is
    a field.
    """
    try_it(page, "whole")
    type_into(page, "request", "{")
    refuse(page, "request", "no JSON")
    type_into(page, "request", '{"a": 1}')
    click(page, "JSON")
    page.wait_for("!!document.getElementById('try-json')")
    assert json.loads(page.evaluate("document.getElementById('try-json').value")) == {
        "request": {"a": 1}
    }
    type_into(page, "json", "{")
    refuse(page, "json", "no JSON")
    type_into(page, "json", '{"request": {"a": 1, "b": 2.5}}')
    assert "A value is wanted." in text_of(page, ".try-request")
    type_into(page, "header-x-tenant", "it's me")
    call(page)
    answer = raw(page)
    assert answer == {"it's me": 3.5}
    assert json.loads(run_program(page, "curl", tmp_path)) == answer
    assert "3.5" in run_program(page, "Python", tmp_path)
    assert page.complaints == []


@full
def test_the_form_and_json_are_two_ways_to_write_it(page):
    """What was typed in one is in the other."""
    try_it(page, "vector")
    type_into(page, "text", "three short words")
    click(page, "JSON")
    page.wait_for("!!document.getElementById('try-json')")
    written = page.evaluate("document.getElementById('try-json').value")
    assert json.loads(written) == {"text": "three short words"}
    type_into(page, "json", '{"text": "four very short words"}')
    click(page, "Form")
    page.wait_for("!!document.getElementById('try-text')")
    assert page.evaluate("document.getElementById('try-text').value") == "four very short words"
    assert "tokens" in call(page)
    assert raw(page)["tokens"] == 4
    text = program(page, "openai")
    assert 'model="vector", input="four very short words"' in text
    compile(text, "call.py", "exec")
    assert page.complaints == []


@full
def test_a_stream_comes_and_is_stopped(page):
    """Words are joined as they come; `Stop` ends it and keeps what has come; an error in it is
    shown with what came before.
    """
    try_it(page, "tell")
    type_into(page, "count", "3")
    shown = call(page)
    assert "word0 word1 word2" in shown
    assert "3 items" in shown
    assert "Server" in shown

    type_into(page, "count", "100000")
    type_into(page, "wait_s", "0.05")
    number = begin(page)
    page.wait_for(f"Number(document.querySelector('.try-result').dataset.call) === {number}")
    wait_for_text(page, ".try-result", "word1 ")
    assert page.evaluate("document.querySelector('.try-result').ariaBusy") == "true"
    click(page, "Stop")
    page.wait_for(ANSWERED.format(number=number))
    shown = text_of(page, ".try-result")
    assert "stopped" in shown
    assert "word1 " in shown

    type_into(page, "wait_s", "")
    type_into(page, "fails_at", "2")
    shown = call(page)
    assert "there are no more words." in shown
    assert "word1" in shown

    type_into(page, "fails_at", "")
    type_into(page, "count", "2")
    for kind in ("application/x-ndjson", "application/json"):
        page.evaluate(
            "(() => { const list = [...document.querySelectorAll('.try-inline select')].at(-1);"
            f" list.value = '{kind}';"
            " list.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )
        assert "word1" in call(page), kind
    assert page.complaints == []


@full
def test_answers_that_are_files(page, tmp_path):
    """A picture is seen, a sound can be played, and either is saved."""
    for name, shown in (
        ("picture", "document.querySelector('.try-figure img')?.naturalWidth === 8"),
        ("beep", "document.querySelector('.try-figure audio')?.duration > 0.09"),
    ):
        try_it(page, name)
        call(page)
        page.wait_for(shown)
        assert page.evaluate("document.querySelector('.try-figure a').download")
        run_program(page, "curl", tmp_path)
        assert len(list(tmp_path.glob(f"{name}-answer.*"))) == 1
    assert page.complaints == []


@full
def test_a_sequence_goes_on(page):
    """The first call begins it, the next go on, the last ends it."""
    try_it(page, "add")
    page.evaluate("document.querySelectorAll('.try-sequence [type=checkbox]')[1].click()")
    for n, so_far in ((2, 2), (3, 5), (4, 9)):
        type_into(page, "n", str(n))
        call(page)
        assert raw(page)["so_far"] == so_far
    page.evaluate("document.querySelectorAll('.try-sequence [type=checkbox]')[1].click()")
    call(page)
    assert raw(page)["so_far"] == 13
    assert page.evaluate(
        "[...document.querySelectorAll('.try-sequence [type=checkbox]')].map((one) => one.checked)"
    ) == [True, True]


SEEN = {
    "spot": "document.querySelector('.try-result')",
    "look": "document.querySelector('.try-table')",
    "tell": "document.querySelector('.try-text')",
    "vector": "document.querySelector('.try-plot, .try-value')",
    "beep": "document.querySelector('.try-figure audio')",
    "add": "document.querySelector('.try-sequence')",
}
"""What is seen of each function's answer."""


@full
@pytest.mark.parametrize("name", SEEN)
def test_the_form_and_its_answer_are_for_everyone(page, name, tmp_path):
    """axe-core finds nothing, light, dark and on a phone, where nothing is wider."""
    page.look(1280, "light")
    try_it(page, name)
    call(page)
    page.wait_for(f"!!{SEEN[name]}")
    for width, scheme in LOOKS:
        page.look(width, scheme)
        page.screenshot(tmp_path / f"{name}-{width}-{scheme}.png")
        assert violations(page) == [], (name, width, scheme)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (name, width)
    assert page.complaints == []


@full
def test_a_sound_is_recorded_and_a_picture_taken(tmp_path):
    """The microphone at the rate that the function names; a file of another kind, too; and what the
    camera sees.
    """
    path = tmp_path / "stereo.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setparams((2, 2, 44100, 0, "NONE", ""))
        sound.writeframes(b"".join(n.to_bytes(2, "little") * 2 for n in range(4410)))
    fake = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with (
        served(tmp_path) as url,
        opened(url, tmp_path / "browser", "#/functions/hear/try", flags=fake) as page,
    ):
        page.wait_for(READY)
        page.give_file("#try-sound", path)
        page.wait_for("document.querySelector('.try-name')?.innerText === 'stereo.wav'")
        size = text_of(page, ".try-chosen .muted")
        click(page, "Convert to WAV")
        page.wait_for(f"document.querySelector('.try-chosen .muted').innerText !== {size!r}")
        call(page)
        converted = raw(page)
        assert (converted["rate"], converted["channels"]) == (8000, 1)
        assert abs(converted["samples"] - 800) <= 2
        click(page, "Record")
        page.wait_for(
            "[...document.querySelectorAll('.try-file button')].some((one) =>"
            " Number(one.innerText.match(/Stop at ([\\d.]+)/)?.[1]) >= 0.5)"
        )
        page.evaluate(
            "[...document.querySelectorAll('.try-file button')]"
            ".find((one) => one.innerText.startsWith('Stop')).click()"
        )
        page.wait_for("document.querySelector('.try-name')?.innerText === 'recording.wav'")
        call(page)
        recorded = raw(page)
        assert (recorded["rate"], recorded["channels"]) == (8000, 1)
        assert recorded["samples"] > 2000
        assert recorded["peak"] > 0  # the browser's own beeps

        try_it(page, "spot")
        click(page, "Camera")
        click(page, "Take the picture")
        page.wait_for("document.querySelector('.try-name')?.innerText === 'photo.jpg'")
        page.wait_for("document.querySelector('.try-thumb')?.naturalWidth > 100")
        call(page)
        assert raw(page)["size"] > 1000
        assert page.complaints == []


@full
def test_a_key_is_sent_and_never_written_down(tmp_path):
    """One that may only look shows the form and cannot call; with one that may, programs have a
    variable in its place.
    """
    with shell(tmp_path) as project:
        declare(tmp_path, http={"auth": {"file": "keys.json"}})
        made = {
            scope: project.run("keys", "add", f"for-{scope[:4]}", "--scope", scope)
            for scope in ("look", "call,look")
        }
        keys = {scope: one.stdout.strip() for scope, one in made.items()}
        with (
            project.serving() as run,
            browser.opened(f"{run.url}/console#/functions/vector/try", tmp_path / "b") as page,
        ):
            give_key(page, keys["look"])
            wait_for_text(page, ".try-request", "This key may not call")
            assert page.evaluate("document.querySelector('.try-request [type=submit]').disabled")
            click(page, "Key: for-look")
            give_key(page, keys["call,look"])
            page.wait_for(READY)
            assert "200" in call(page)
            answer = raw(page)
            for kind in ("curl", "Python"):
                assert "KEY" in program(page, kind)
                assert run_program(page, kind, tmp_path, KEY=keys["call,look"]), kind
            run_again = run_program(page, "curl", tmp_path, KEY=keys["call,look"])
            assert json.loads(run_again) == answer
            assert 'api_key=os.environ["KEY"]' in program(page, "openai")
            assert not any(
                key in page.evaluate("document.documentElement.outerHTML") for key in keys.values()
            )


@full
def test_a_server_that_dies_under_a_call(tmp_path):
    """What has come of the stream stays, and the page says what happened."""
    with shell(tmp_path) as project:
        declare(tmp_path)
        with (
            project.serving(ends_with=-signal.SIGKILL) as run,
            opened(run.url, tmp_path / "b", "#/functions/tell/try") as page,
        ):
            page.wait_for(READY)
            type_into(page, "count", "100000")
            type_into(page, "wait_s", "0.05")
            number = begin(page)
            wait_for_text(page, ".try-result", "word1 ")
            run.process.kill()
            page.wait_for(ANSWERED.format(number=number))
            shown = text_of(page, ".try-result")
            assert "The call broke off" in shown
            assert "word1 " in shown
            call(page)
            wait_for_text(page, ".try-result", "The server cannot be reached.")


@full
def test_the_keyboard_calls(page):
    """`Ctrl` `Enter` in a field; the first wrong field has the focus then."""
    try_it(page, "vector")
    page.evaluate("document.getElementById('try-text').focus()")
    before = page.evaluate("Number(document.querySelector('.try-result')?.dataset.call ?? 0)")
    enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "modifiers": 2}
    page.command("Input.dispatchKeyEvent", type="keyDown", **enter)
    page.command("Input.dispatchKeyEvent", type="keyUp", **enter)
    page.wait_for(ANSWERED.format(number=before + 1))
    assert "200" in text_of(page, ".try-result")
    try_it(page, "tell")
    type_into(page, "count", "few")
    page.evaluate("document.getElementById('try-wait_s').focus()")
    page.command("Input.dispatchKeyEvent", type="keyDown", **enter)
    page.command("Input.dispatchKeyEvent", type="keyUp", **enter)
    page.wait_for("document.activeElement?.id === 'try-count'")
    assert page.complaints == []


@full
def test_an_answer_is_no_markup(page):
    """Whatever a function answers, and whatever it refuses, is text."""
    hostile = "<img src=x onerror='window.pwned=1'><script>window.pwned=1</script>"
    try_it(page, "look")
    type_into(page, "title", hostile)
    assert hostile in call(page)
    raw(page)
    click(page, "Headers")
    type_into(page, "day", hostile)
    call(page)
    page.wait_for("!!document.querySelector('#try-day-fault')")
    assert page.evaluate("typeof window.pwned") == "undefined"
    assert all("400" in one for one in page.complaints), page.complaints
    page.complaints.clear()


@full
@pytest.mark.models
def test_the_shipped_functions(tmp_path, models):
    """`ocr` reads a page and writes upon it, `classify` has bars, `listen` hears, `embed` folds its
    numbers.
    """
    file = ROOT / "serve_config.yaml"
    with (
        shell(tmp_path) as project,
        project.serving(str(file)) as run,
        opened(run.url, tmp_path / "browser") as page,
    ):
        page.look(1280, "light")
        try_it(page, "ocr")
        page.give_file("#try-image", models / "ocr" / "sample.png")
        page.wait_for("document.querySelector('.try-name')?.innerText === 'sample.png'")
        call(page)
        lines = len(raw(page)["lines"])
        assert lines >= 5
        page.wait_for(f"document.querySelectorAll('.try-box text').length === {lines}")
        page.screenshot(tmp_path / "ocr.png")
        try_it(page, "classify")
        page.give_file("#try-image", models / "classify" / "sample.png")
        page.wait_for("document.querySelector('.try-name')?.innerText === 'sample.png'")
        call(page)
        assert page.evaluate("document.querySelectorAll('.try-scores tbody tr').length") == 5
        page.screenshot(tmp_path / "classify.png")
        try_it(page, "listen")
        page.give_file("#try-sound", models / "listen" / "sample.wav")
        page.wait_for("document.querySelector('.try-name')?.innerText === 'sample.wav'")
        assert "speech_start" in call(page)
        page.screenshot(tmp_path / "listen.png")
        try_it(page, "embed")
        assert "384 numbers" in call(page)
        assert "client.embeddings.create" in program(page, "openai")
        page.screenshot(tmp_path / "embed.png")
        page.wait_for(LIVE)
        assert page.complaints == []
