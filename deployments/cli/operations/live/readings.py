"""What a server's events have said of it so far: its functions, the numbers of the last minute, its
machines. ``runtime.http.catalogue.console.shapes`` has what these events are.

Pure: events in, the newest state out. What a table reads of them is looked at here, and no text in
it commands a terminal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Final

from deployments.cli.terminal import printable, printable_data

STEPS: Final = 12
"""Of a line: one minute."""

MOST_EVENT_BYTES: Final = 64 << 20
"""Of one event: an entry takes about a kilobyte, and the first event has all of them."""

Entry = Mapping[str, Any]
"""A function, as of ``runtime.http.catalogue.console.shapes``."""

Values = tuple[float | None, ...]
"""Of ``STEPS`` steps, the newest last; None: there was no call in it."""

NO_VALUES: Final[Values] = (None,) * STEPS


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event; ``name`` is empty where none was said."""

    name: str
    data: str


class EventDecoder:
    """Reads ``text/event-stream`` (WHATWG HTML, section 9.2) as servers of ours write it: lines end
    with a line feed, and no event has an id.

    Mutable state: ``_rest``, of an event that is not whole yet.
    """

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, piece: bytes) -> list[ServerEvent]:
        """Return the events that are whole now; comments are none.

        Raises:
            ValueError: an event is longer than ``MOST_EVENT_BYTES``, or no UTF-8.
        """
        start = max(0, len(self._rest) - 1)  # the first of two line feeds may have been the last
        self._rest += piece
        end = self._rest.rfind(b"\n\n", start)
        if end < 0:
            if len(self._rest) > MOST_EVENT_BYTES:
                raise ValueError(f"an event has more than {MOST_EVENT_BYTES >> 20} MiB")
            return []
        whole = self._rest[:end].decode()
        del self._rest[: end + 2]
        return [event for text in whole.split("\n\n") if (event := _read_event(text)) is not None]


def _read_event(text: str) -> ServerEvent | None:
    name, data = "", []
    for line in text.split("\n"):
        key, _, value = line.partition(":")
        if key == "event":
            name = value.strip()
        elif key == "data":
            data.append(value.removeprefix(" "))
    return ServerEvent(name, "\n".join(data)) if data else None


def says_moving(event: ServerEvent) -> bool:
    """Whether a server says that this stream ends, and the next one is to be opened at once."""
    with suppress(ValueError, AttributeError):
        return event.name == "closing" and json.loads(event.data).get("is_moving") is True
    return False


Kinds = Mapping[str, type | tuple[type, ...]]

_NUMBER: Final = (int, float)
_KNOWN: Final = (int, float, NoneType)

_ENTRY: Final[Kinds] = {
    **dict.fromkeys(("name", "state", "reason", "tier", "url", "part_of", "last_decision"), str),
    **dict.fromkeys(("replicas", "memory_bytes"), _NUMBER),
    **dict.fromkeys(("errors", "last_minute"), dict),
    "doing": str,
    "is_quarantined": bool,
    "last_wake": (dict, NoneType),
}
_MACHINE: Final[Kinds] = {
    **dict.fromkeys(("id", "address"), str),
    **dict.fromkeys(("cpus", "used_bytes", "budget_bytes"), _KNOWN),
    "gpus": list,
}
_LACK: Final[Kinds] = dict.fromkeys(("machine", "name", "lost"), str)


def _require(data: Mapping[str, Any], kinds: Kinds) -> None:
    """See that what is read of plain data is there.

    Raises:
        KeyError, TypeError: it is not, or is something else.
    """
    for key, kind in kinds.items():
        if not isinstance(data[key], kind):
            raise TypeError(key)


def _require_entry(entry: Entry) -> None:
    _require(entry, _ENTRY)
    _require(entry["errors"], dict.fromkeys(entry["errors"], _NUMBER))
    minute = entry["last_minute"]
    _require(minute, dict.fromkeys({"p50_ms", "p95_ms"} & minute.keys(), _KNOWN))
    if entry["last_wake"] is not None:
        _require(entry["last_wake"], {"total_s": _NUMBER})


def _require_machine(machine: Mapping[str, Any]) -> None:
    _require(machine, _MACHINE)
    for gpu in machine["gpus"]:
        _require(gpu, {"id": object, "shares": list})
        for share in gpu["shares"]:
            _require(share, {"function": str, "num_gpus": _NUMBER})


@dataclass(frozen=True, slots=True)
class Line:
    """The numbers of a function, each of the steps of the last minute."""

    calls_per_s: Values = NO_VALUES
    p50_ms: Values = NO_VALUES
    p95_ms: Values = NO_VALUES
    errors_per_s: Values = NO_VALUES

    def moved(self, steps: int, new: Line | None, given: int) -> Line:
        """Return the line ``steps`` later, 0 and more, of which the last ``given`` are those of
        ``new``; None: these had no call.
        """
        return Line(
            *(
                (*old[steps:], *((None,) * min(steps, STEPS)))[: STEPS - given]
                + (NO_VALUES if newest is None else newest)[STEPS - given :]
                for old, newest in (
                    (getattr(self, name), None if new is None else getattr(new, name))
                    for name in self.__slots__
                )
            )
        )

    @property
    def is_blank(self) -> bool:
        """Whether there was no call in the last minute."""
        return not any(self.calls_per_s)


NO_LINE: Final = Line()


def _read_line(data: Mapping[str, Any]) -> Line:
    return Line(
        *(
            (NO_VALUES + tuple(map(_number, data.get(name) or ())))[-STEPS:]
            for name in Line.__slots__
        )
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


@dataclass(slots=True)
class ServerReading:
    """What is known of one server.

    Mutable state, all of it: ``entries`` and ``lines`` by the functions' names; ``machines`` and
    ``lacks`` as the event ``server`` has them; ``ended_at``, the end of the lines in seconds since
    the epoch; ``seen``, the names of the events that have come since it was connected; ``trouble``,
    why it is not connected, empty while it is; ``is_refused``: nothing will be shown of it until
    its user does something about that.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    lines: dict[str, Line] = field(default_factory=dict)
    machines: Sequence[Mapping[str, Any]] = ()
    lacks: Sequence[Mapping[str, Any]] = ()
    ended_at: float | None = None
    seen: set[str] = field(default_factory=set)
    trouble: str = ""
    is_refused: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether all has come that a table shows."""
        return {"functions", "samples", "server"} <= self.seen

    def take(self, event: ServerEvent) -> bool:
        """Take an event; returns whether it is one of those that a table shows.

        Raises:
            ValueError: it is not as servers of ours write it.
        """
        if event.name not in ("functions", "samples", "server"):
            return False
        try:
            data = printable_data(json.loads(event.data))
            getattr(self, f"_take_{event.name}")(data)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"the event {event.name!r} is otherwise than expected") from error
        self.seen.add(event.name)
        self.trouble, self.is_refused = "", False
        return True

    def lose(self, trouble: str, *, is_refused: bool = False) -> None:
        """It is not connected any more. What is known of its functions stays, to be looked at."""
        self.begin_again()
        self.trouble = " ".join(printable(trouble).split())
        self.is_refused = is_refused

    def begin_again(self) -> None:
        """Another stream of it begins with everything."""
        self.seen.clear()
        self.ended_at = None

    def _take_functions(self, data: Mapping[str, Any]) -> None:
        if data["all"]:
            self.entries = {}
        for name in data.get("removed", ()):
            self.entries.pop(name, None)
            self.lines.pop(name, None)
        for entry in data["functions"]:
            _require_entry(entry)
            self.entries[entry["name"]] = entry

    def _take_samples(self, data: Mapping[str, Any]) -> None:
        step_s = float(data["step_s"])
        new = {name: _read_line(of) for name, of in data["functions"].items()}
        ended_at = float(data["from"]) + step_s * data["steps"]
        if self.ended_at is None:
            self.lines, self.ended_at = new, ended_at
            return
        given = min(int(data["steps"]), STEPS)
        # steps may be told once more, and a clock may have been set back
        steps = min(STEPS, max(0, round((ended_at - self.ended_at) / step_s)))
        moved = {
            name: self.lines.get(name, NO_LINE).moved(steps, new.get(name), given)
            for name in {**self.lines, **new}
        }
        self.lines = {name: line for name, line in moved.items() if not line.is_blank}
        self.ended_at = ended_at

    def _take_server(self, data: Mapping[str, Any]) -> None:
        machines, lacks = list(data.get("machines") or ()), list(data.get("lacks") or ())
        for machine in machines:
            _require_machine(machine)
        for lack in lacks:
            _require(lack, _LACK)
        self.machines, self.lacks = machines, lacks
