"""The console over HTTP: what a page is told, what its buttons do, and which requests are refused."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from runtime.declaration.http_section import CorsSpec
from runtime.http.catalogue.console import feed, library_console, routes
from runtime.http.catalogue.console.feed import MOST_STREAMS
from runtime.http.library_handler import LibraryHandler
from tests.runtime.http.catalogue.console.opened import PATIENCE_S, TOKEN, Console, opened
from tests.sleepers import HANDS, obedient


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at each second is looked at more often."""
    monkeypatch.setattr(feed, "LOG_S", 0.05)
    monkeypatch.setattr(feed, "LEAST_S", 0.02)
    monkeypatch.setattr(library_console, "ALONE_POLL_S", 0.1)


def test_a_page_is_told_all_and_then_what_changes(tmp_path):
    """The functions first, the last minute, the machine; then a wake, as it goes on, and a load
    that fails while it is watched, with its reason.
    """

    async def work(console: Console) -> None:
        async with console.page() as page:
            first = await page.next("functions")
            assert first["all"]
            assert [one["name"] for one in first["functions"]] == ["a", "b"]
            assert {one["state"] for one in first["functions"]} == {"asleep"}
            assert (await page.next("samples"))["steps"] == 12
            server = await page.next("server")
            assert (server["kind"], len(server["machines"]), server["lacks"]) == ("run", 1, [])
            HANDS["told"].may_load.clear()
            waking = asyncio.create_task(console.http.post("/v2/models/a", json={"n": 1}))
            entry = await page.until_state("a", "waking")
            assert (entry["tier"], entry["replicas"]) == ("run", 1)
            HANDS["told"].may_load.set()
            entry = await page.until_state("a", "ready")
            assert (await waking).status_code == 200
            if entry["last_wake"] is None:  # it has been answered since
                await page.until(lambda data: any(one["last_wake"] for one in data["functions"]))
            HANDS["fails"].fault = "no weights"
            assert (await console.http.post("/v2/models/b", json={"n": 1})).status_code == 503
            assert "no weights" in (await page.until_state("b", "failed"))["reason"]
            others = [one for _, data in page.events[3:] for one in data.get("functions", ())]
            assert not any(data.get("all") for _, data in page.events[3:])
            assert others

    opened(tmp_path, [obedient("a", "told"), obedient("b", "fails")], work)


def test_the_buttons_do_what_the_repository_does(tmp_path):
    """Wake, sleep, pin, unpin; the page shows each."""

    async def work(console: Console) -> None:
        async with console.page() as page:
            assert (await console.act("f", "wake")).json() == {}
            await page.until_state("f", "ready")
            assert (await console.act("f", "pin")).status_code == 200
            await page.until(lambda data: any(one["pinned"] for one in data["functions"]))
            refused = await console.act("f", "sleep")
            assert (refused.status_code, refused.json()["code"]) == (409, "bad_request")
            assert (await console.act("f", "unpin")).status_code == 200
            assert (await console.act("f", "sleep")).status_code == 200
            await page.until_state("f", "asleep")
        for verb, name, status in (("load", "f", 404), ("wake", "g", 404)):
            answer = await console.act(name, verb)
            assert (answer.status_code, answer.json()["code"]) == (status, "not_found")
        assert (await console.http.get("/console/functions/f/wake")).status_code == 405

    opened(tmp_path, [obedient("f", "buttons")], work)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-console-token": TOKEN}, 200),
        ({"x-console-token": TOKEN, "sec-fetch-site": "same-origin"}, 200),
        ({}, 403),
        ({"x-console-token": ""}, 403),
        ({"x-console-token": TOKEN[:-1]}, 403),
        ({"x-console-token": f"{TOKEN}x"}, 403),
        ({"x-console-token": TOKEN, "sec-fetch-site": "cross-site"}, 403),
        ({"x-console-token": TOKEN, "sec-fetch-site": "same-site"}, 403),
        ({"x-console-token": TOKEN, "origin": "https://evil.example"}, 403),
        ({"x-console-token": TOKEN, "origin": "null"}, 403),
    ],
)
def test_what_changes_a_state_needs_the_token_of_the_page(tmp_path, headers, status):
    """And no page of another site has it, or may send it."""

    async def work(console: Console) -> None:
        answer = await console.http.post("/console/functions/f/wake", headers=headers)
        assert answer.status_code == status
        if status == 403:
            assert answer.json()["code"] == "forbidden"
            assert console.library.entries.require("f").state.state == "asleep"

    opened(tmp_path, [obedient("f", "token")], work)


@pytest.mark.parametrize("origin", ["https://app.example", "*"])
def test_no_page_of_another_origin_reads_it(tmp_path, origin: str):
    """Not even one that `http.cors` lets call: it would have the token."""

    async def work(console: Console) -> None:
        app = {"origin": "https://app.example"}
        called = await console.http.post("/v2/models/f", json={"n": 1}, headers=app)
        assert called.headers["access-control-allow-origin"] == origin
        for path in ("session", "events", "functions/f"):
            answer = await console.http.get(f"/console/{path}", headers=app)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
            assert "access-control-allow-origin" not in answer.headers
        asked = {**app, "access-control-request-method": "POST"}
        for path in ("session", "functions/f/wake"):
            preflight = await console.http.options(f"/console/{path}", headers=asked)
            assert "access-control-allow-origin" not in preflight.headers
        page = await console.http.get("/console", headers=app)
        assert (page.status_code, "access-control-allow-origin" in page.headers) == (200, False)

    cors = CorsSpec.model_validate({"origins": [origin]})
    opened(tmp_path, [obedient("f", "cors")], work, cors=cors)


def test_what_the_page_asks_for_itself(tmp_path):
    """Its token, and what its key may do: all, where no keys are asked for."""

    async def work(console: Console) -> None:
        session = (await console.http.get("/console/session")).json()
        assert (session["token"], session["kind"], session["key"]) == (TOKEN, "run", "")
        assert session["can"] == ["call", "look", "operate"]
        assert not session["asks_for_keys"]
        keyed = {"x-wakeful-key": "ops", "x-wakeful-scopes": "r.lo"}
        session = (await console.http.get("/console/session", headers=keyed)).json()
        assert (session["can"], session["key"]) == (["look", "operate"], "ops")
        assert session["asks_for_keys"]
        index = await console.http.get("/", headers={"accept": "text/html"})
        assert (index.status_code, index.headers["location"]) == (303, "console")
        assert (await console.http.get("/")).json()["functions"]

    opened(tmp_path, [obedient("f", "session")], work)


def test_a_page_of_one_function_has_its_news(tmp_path):
    """What has become of it, its last errors with their ids, its log; all there is at first, then
    what is new. A second page has the same.
    """

    class Log:
        def __init__(self) -> None:
            self.lines = [{"at": "", "kind": "OUT", "text": "first"}]

        def read_last(self) -> list[dict[str, str]]:
            return list(self.lines)

        def read_new(self) -> list[dict[str, str]]:
            new, self.lines = self.lines[1:], self.lines[:1]
            return new

    log = Log()

    async def work(console: Console) -> None:
        await console.http.post("/v2/models/f", json={"n": 1})
        headers = {"x-request-id": "mine"}
        assert (await console.http.post("/v2/models/f", json={}, headers=headers)).is_error
        async with console.page("f") as page:
            why = [one["why"] for one in (await page.next("decisions"))["decisions"]]
            assert why[0] == "asleep → waking"
            assert why[1].startswith("waking → ready: loaded in ")
            (failed,) = (await page.next("errors"))["errors"]
            assert (failed["code"], failed["status"], failed["id"]) == (
                "missing_input",
                400,
                "mine",
            )
            shown = await page.next("log")
            assert (shown["all"], shown["lines"][0]["text"]) == (True, "first")
            log.lines.append({"at": "", "kind": "OUT", "text": "second"})
            await console.act("f", "sleep")
            told = await page.until(lambda data: not data["all"], "log")
            assert [one["text"] for one in told["lines"]] == ["second"]
            await page.until(
                lambda data: any(one["why"] == "draining → asleep" for one in data["decisions"]),
                "decisions",
            )
            async with console.page("f") as other:
                assert len((await other.next("decisions"))["decisions"]) >= 4
                assert [one["text"] for one in (await other.next("log"))["lines"]] == [
                    "first",
                    "second",
                ]
        details = (await console.http.get("/console/functions/f")).json()
        assert details["errors"][0]["id"] == "mine"
        assert details["decisions"][-1]["why"] == "draining → asleep"
        assert details["entry"]["name"] == "f"
        refused = await console.http.get("/console/functions/f?step=7")
        assert (refused.status_code, refused.json()["where"]) == (400, "step")

    opened(
        tmp_path,
        [obedient("f", "news")],
        work,
        facts={"open_log": lambda name: log, "no_log": ""},
    )


MINE = {"x-wakeful-key": "ops", "x-wakeful-functions": "mine"}


def test_a_key_sees_its_functions_in_every_event(tmp_path):
    """No name of another function is told anywhere, nor the machines; another page sees all."""

    async def work(console: Console) -> None:
        HANDS["view"].fault = "it wants theirs, which is away"
        for name in ("mine", "theirs"):
            await console.http.post(f"/v2/models/{name}", json={"n": 1})
        async with console.page("mine", **MINE) as page, console.page() as other:
            assert len((await other.next("functions"))["functions"]) == 2
            first = await page.next("functions")
            assert [one["name"] for one in first["functions"]] == ["mine"]
            await page.next("log")
            HANDS["view"].fault = "theirs is away for good"
            HANDS["theirs"].may_load.set()
            for name in ("theirs", "mine"):
                await console.act(name, "sleep")
                entry = console.library.entries.require(name)
                entry.retry_at = 0.0
                await console.http.post(f"/v2/models/{name}", json={"n": 1})
            await page.until(
                lambda data: any("for good" in one["reason"] for one in data["functions"])
            )
            await page.until(
                lambda data: any("for good" in one["why"] for one in data["decisions"]), "decisions"
            )
            assert "theirs" not in json.dumps(page.events)
            servers = [data for name, data in page.events if name == "server"]
            assert servers[0] == {"kind": "run", "machines": [], "lacks": []}
        for path in ("functions/theirs", "events?function=theirs"):
            hidden = await console.http.get(
                f"/console/{path}", headers={**MINE, "x-request-id": "1"}
            )
            absent = await console.http.get(
                f"/console/{path.replace('theirs', 'thairs')}",
                headers={**MINE, "x-request-id": "1"},
            )
            assert hidden.status_code == absent.status_code == 404
            assert hidden.text == absent.text
        assert (await console.act("theirs", "wake", **MINE)).status_code == 404
        seen = (await console.http.get("/console/functions/mine", headers=MINE)).text
        assert "for good" in seen
        assert "theirs" not in seen

    opened(tmp_path, [obedient("mine", "view"), obedient("theirs", "theirs")], work)


def test_a_stream_with_a_key_ends_so_that_the_key_is_looked_at_again(
    tmp_path, monkeypatch: pytest.MonkeyPatch
):
    """Whatever the key opens; a page without one stays."""
    monkeypatch.setattr(routes, "KEYED_S", 0.01)

    async def work(console: Console) -> None:
        async with console.page() as stays:
            for headers in (MINE, {"x-wakeful-key": "ops", "x-wakeful-functions": "*"}):
                async with asyncio.timeout(PATIENCE_S), console.page("mine", **headers) as page:
                    await page.until_end()
                    assert page.events[-1] == ("closing", {"is_moving": True})
            await console.act("mine", "wake")
            await stays.until_state("mine", "ready")

    opened(tmp_path, [obedient("mine", "again and again")], work)


def test_what_is_open_without_a_key_names_no_function(tmp_path):
    """The page, its files, and files that are not there; elsewhere a wrong path has a hint."""

    async def work(console: Console) -> None:
        for path in ("", "/assets/", "/assets/hidden", "/assets/%2e%2e/session", "/assets/a/b.js"):
            answer = await console.http.get(f"/console{path}")
            assert "hidden_one" not in answer.text
            assert answer.status_code == (404 if path else 200)
        assert "hidden_one" in (await console.http.get("/consoles")).text

    opened(tmp_path, [obedient("hidden_one", "open")], work)


def test_streams_are_bounded(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """One more is told when to come again; a closed page makes room."""
    monkeypatch.setattr(feed, "MOST_STREAMS", 2)
    assert MOST_STREAMS >= 32

    async def work(console: Console) -> None:
        shown = console.console.console
        assert shown is not None
        async with console.page(), console.page():
            refused = await console.http.get("/console/events")
            assert (refused.status_code, refused.json()["code"]) == (503, "too_many_consoles")
            assert refused.headers["retry-after"] == "10"
        await console.until(lambda: shown.feed.streams == 0)
        async with console.page() as page:
            await page.next("functions")

    opened(tmp_path, [obedient("f", "bound")], work)


def test_nothing_is_looked_at_while_no_page_is_open(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """After the last one is closed either."""
    looks, index = [], LibraryHandler.index

    async def counted(handler: LibraryHandler) -> Any:
        looks.append(1)
        return await index(handler)

    monkeypatch.setattr(LibraryHandler, "index", counted)

    async def work(console: Console) -> None:
        shown = console.console.console
        assert shown is not None
        async with console.page() as page:
            await page.next("server")
        await console.until(lambda: shown.feed.streams == 0)
        seen = len(looks)
        assert seen
        await console.http.post("/v2/models/f", json={"n": 1})
        assert len(looks) == seen

    opened(tmp_path, [obedient("f", "quiet")], work)


def test_pages_are_told_of_the_end(tmp_path):
    """And of a move, after which the server takes them again; no further one is taken at the
    end.
    """

    async def work(console: Console) -> None:
        shown = console.console.console
        assert shown is not None
        async with console.page("f") as page:
            await page.next("log")
            shown.feed.move_streams()
            await page.until_end()
            assert page.events[-1] == ("closing", {"is_moving": True})
        async with console.page() as page:
            await page.next("server")
            console.console.end_streams()
            await page.until_end()
            assert page.events[-1] == ("closing", {"is_moving": False})
        refused = await console.http.get("/console/events")
        assert (refused.status_code, refused.json()["code"]) == (503, "draining")

    opened(tmp_path, [obedient("f", "ends")], work)


def test_a_source_that_fails_is_asked_again(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """The page keeps what it has, and is told what comes after."""
    monkeypatch.setattr(feed, "FAILED_S", 0.01)
    index, faults = LibraryHandler.index, [False]

    async def broken(handler: LibraryHandler) -> Any:
        if faults.pop():
            raise RuntimeError("Ray does not answer")
        faults.append(False)
        return await index(handler)

    monkeypatch.setattr(LibraryHandler, "index", broken)

    async def work(console: Console) -> None:
        async with console.page() as page:
            await page.next("server")
            faults[:] = [False, True]
            assert (await console.http.post("/v2/models/f", json={"n": 1})).status_code == 200
            await page.until_state("f", "ready")

    opened(tmp_path, [obedient("f", "again")], work)


def test_a_head_of_a_stream_opens_none(tmp_path):
    """The answer is whole."""

    async def work(console: Console) -> httpx.Response:
        return await console.http.head("/console/events")

    answer = opened(tmp_path, [obedient("f", "head")], work)
    assert (answer.status_code, answer.content) == (200, b"")
