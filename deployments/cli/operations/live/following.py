"""Follows the events of servers, those of this machine as they come and go, or one at an address:
one stream each, opened again when it ends, with growing waits.

The stream costs a server least: what has changed is written once for all that follow it, and a
server at rest writes nothing. The index, asked twice a second, is written whole each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from deployments.cli.operations.live.readings import EventDecoder, ServerReading, says_moving

if TYPE_CHECKING:
    import httpx

    from deployments.ingress.tls.clients import ClientFiles
    from deployments.ray_support.state_dir import StateDir

EVENTS_PATH: Final = "/console/events"

FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 5.0
"""Before a stream is opened again."""

MOVING_S: Final = 0.1
"""Likewise, where its server says that another one is to take its place at once."""

CONNECT_S: Final = 5.0
SILENCE_S: Final = 30.0
"""A server sends a comment each 10 s where nothing changes."""

LOOK_S: Final = 2.0
"""Between two looks at which servers there are on this machine."""

PASSING: Final = (429, 503)
"""Of a server that is about to begin, or has as many readers as it takes."""

MOST_REFUSAL_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class WatchedServer:
    """A server.

    Attributes:
        url: its address.
        words: what it is: ``wakeful run of serve_config.yaml``.
        headers: that requests carry, a key among them.
        inner: as of ``FunctionPlace``.
        is_local: it is one of this machine's.
    """

    url: str
    words: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    inner: Path | None = None
    is_local: bool = True


def local_servers(state_dir: StateDir) -> list[WatchedServer]:
    """What is up on this machine, and each run; Ray is not asked."""
    from deployments.ingress.haproxy.rules import SECRET
    from deployments.local.runs import inner_socket, live_runs

    def carried(secret: str) -> tuple[tuple[str, str], ...]:
        return ((SECRET, secret),) if secret else ()

    servers = []
    if (up := state_dir.load()) is not None:
        headers = carried(state_dir.call_secret(up))
        words = f"wakeful up of {up.file}"
        servers.append(WatchedServer(up.url, words, headers, state_dir.inner_socket))
    for run in reversed(live_runs(state_dir)):
        words = f"wakeful run of {run.file}, process {run.pid}"
        inner = inner_socket(state_dir, run)
        servers.append(WatchedServer(run.url, words, carried(run.secret), inner))
    return servers


class Refused(Exception):
    """A server answers, and shows nothing; with the reason and what to do.

    Attributes:
        is_passing: it may show all soon.
    """

    def __init__(self, words: str, *, is_passing: bool) -> None:
        super().__init__(words)
        self.is_passing = is_passing


class Watch:
    """Follows servers within its block.

    Args:
        find: the servers that there are now; called each ``LOOK_S``.
        trust: as of ``tls_options``.

    Attributes:
        readings: of each server that there is, with the words for it, by its address.
        has_changed: set with each change of them; the reader clears it.

    Mutable state: these, ``_tasks`` by server, and the task that looks for servers.
    """

    def __init__(self, find: Callable[[], Sequence[WatchedServer]], trust: ClientFiles) -> None:
        self._find = find
        self._trust = trust
        self._tasks: dict[WatchedServer, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None
        self.readings: dict[str, tuple[str, ServerReading]] = {}
        self.has_changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._look()
        self._looking = asyncio.create_task(self._go_on_looking())
        return self

    async def __aexit__(self, *error: object) -> None:
        tasks = [*self._tasks.values(), *([self._looking] if self._looking else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def is_settled(self) -> bool:
        """Whether each server has said all, or will show nothing."""
        return all(reading.is_whole or reading.is_refused for _, reading in self.readings.values())

    async def _go_on_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self._look()

    def _look(self) -> None:
        found = list({server.url: server for server in self._find()}.values())
        for server in [known for known in self._tasks if known not in found]:
            self._tasks.pop(server).cancel()
            self.readings.pop(server.url, None)
            self.has_changed.set()
        for server in found:
            if server not in self._tasks:
                reading = ServerReading()
                self.readings[server.url] = server.words, reading
                self._tasks[server] = asyncio.create_task(self._follow(server, reading))
                self.has_changed.set()

    async def _follow(self, server: WatchedServer, reading: ServerReading) -> None:
        """Follow one server until it is cancelled."""
        import httpx

        wait_s = FIRST_WAIT_S
        while True:
            try:
                is_moving = False
                async with self._opened(server) as response:
                    decoder = EventDecoder()
                    async for piece in response.aiter_bytes():
                        for event in decoder.feed(piece):
                            is_moving = says_moving(event)
                            if reading.take(event):
                                self.has_changed.set()
                        wait_s = FIRST_WAIT_S
                if is_moving:
                    reading.begin_again()
                    await asyncio.sleep(MOVING_S)
                    continue
                reading.lose("the server has ended; connecting again")
            except Refused as refused:
                reading.lose(str(refused), is_refused=not refused.is_passing)
            except httpx.ConnectError as error:
                reading.lose(f"nothing answers: {error}; connecting again", is_refused=True)
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                words = str(error).rstrip(".") or type(error).__name__
                reading.lose(f"{words}; connecting again")
            self.has_changed.set()
            await asyncio.sleep(wait_s)
            wait_s = min(LONGEST_WAIT_S, wait_s * 2)

    @contextlib.asynccontextmanager
    async def _opened(self, server: WatchedServer) -> AsyncIterator[httpx.Response]:
        """The answer of a server, once it is a stream of events.

        Raises:
            Refused: it is another.
            httpx.HTTPError: there is none.
        """
        import httpx

        options: dict[str, Any] = {
            "timeout": httpx.Timeout(CONNECT_S, read=SILENCE_S),
            "headers": [*server.headers, ("accept", "text/event-stream")],
        }
        at = server.url + EVENTS_PATH
        if server.inner is None:
            options |= {"trust_env": not server.is_local, "verify": self._trust.context() or True}
        else:
            options["transport"] = httpx.AsyncHTTPTransport(uds=str(server.inner))
            at = at.replace("https://", "http://", 1)
        async with httpx.AsyncClient(**options) as client, client.stream("GET", at) as response:
            kind = response.headers.get("content-type", "").partition(";")[0]
            if response.status_code != httpx.codes.OK or kind != "text/event-stream":
                is_passing = response.status_code in PASSING
                raise Refused(await _refusal(response), is_passing=is_passing)
            yield response


async def _refusal(response: httpx.Response) -> str:
    """Why a server shows nothing, and what to do."""
    match response.status_code:
        case 401:
            return "it asks for a key; WAKEFUL_KEY has the one that is sent"
        case 403:
            return "the key may not look: it needs the scope `look`"
        case 404:
            return (
                "it has no console, and so no events: `http: {console: false}`, or an older"
                " version; `wakeful status` shows its functions"
            )
    message = ""
    with contextlib.suppress(ValueError, AttributeError):
        body = bytearray()
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > MOST_REFUSAL_BYTES:
                break
        message = f": {json.loads(body).get('error', '')}"
    return f"it answers {response.status_code}{message.rstrip('.')}"
