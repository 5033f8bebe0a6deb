"""What an operator may do with the captures of a server, whichever its processes are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from runtime.errors import MissingInput, NotFound, RequestError, UnknownInput, WrongDatatype
from runtime.library.capture.captures import Captures, Order
from runtime.library.capture.files import file_of, make_folder
from runtime.system.messages import did_you_mean, known_names
from runtime.system.telemetry.counters import ProcessCounters

MAX_FOR_S: Final = 86400.0
"""For how long an operator may have calls recorded; longer is for the declaration."""


@dataclass(frozen=True, slots=True)
class CaptureStatus:
    """What is recorded of a function.

    Attributes:
        rate: share of its calls that is, now.
        until: when that ends, seconds since the epoch; None: it is declared.
        declared_rate: that holds otherwise.
        file: of the recorded calls, where one was or would be written.
        calls: that were recorded since the server began.
        lost: that were to be, and could not.
        ends_with_process: what an operator has ordered ends with the process that answers, or with
            its next version after an edit; else other processes keep it.
    """

    rate: float
    until: float | None
    declared_rate: float
    file: str
    calls: int
    lost: int
    ends_with_process: bool = True

    def adding(self, calls: int, lost: int) -> CaptureStatus:
        """Return it with what other processes have recorded and lost; they keep the orders, too."""
        return replace(
            self, calls=self.calls + calls, lost=self.lost + lost, ends_with_process=False
        )


class CaptureControl(Protocol):
    """What the capture routes do (``runtime.http.catalogue.app``). Each takes the name of a
    function and raises a ``WakefulError``: ``NotFound``, or why it cannot be done.
    """

    async def start(self, name: str, order: Order) -> CaptureStatus:
        """Have its calls recorded at this rate, until then."""

    async def stop(self, name: str) -> CaptureStatus:
        """Have them recorded as they are declared."""

    async def status(self, name: str) -> CaptureStatus:
        """Return what is recorded now."""


def read_order(data: Mapping[str, Any], now: float) -> Order:
    """Return the order in the body of a request: ``{"rate": 1, "for_s": 60}``.

    Args:
        now: seconds since the epoch.

    Raises:
        RequestError: it is none.
    """
    for key in data:
        if key not in ("rate", "for_s"):
            raise UnknownInput(
                "rate and for_s are taken; what else holds is declared under `capture`.", where=key
            )
    rate, for_s = _number(data, "rate"), _number(data, "for_s")
    if not 0 <= rate <= 1:
        raise RequestError(f"{rate:g} is no share of calls; from 0 to 1.", where="rate")
    if not 0 < for_s <= MAX_FOR_S:
        raise RequestError(
            f"{for_s:g} s is given; above 0, and a day ({MAX_FOR_S:g} s) at most. What is recorded"
            " for longer is declared: `capture: {rate: …}`.",
            where="for_s",
        )
    return Order(rate, now + for_s)


def _number(data: Mapping[str, Any], key: str) -> float:
    if key not in data:
        raise MissingInput(f"{key} is missing.", where=key)
    value = data[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise WrongDatatype("a number is wanted.", where=key)
    return float(value)


def require_folder(folder: Path) -> None:
    """Refuse to record where nothing can be written.

    Raises:
        RequestError: with status 409.
    """
    try:
        make_folder(folder)
    except OSError as error:
        raise RequestError(
            f"calls would be recorded in {folder}, which cannot be written: {error.strerror}. Name"
            " another folder in WAKEFUL_CAPTURES when you start the server.",
            status=409,
        ) from error


class LocalCaptures:
    """Implements ``CaptureControl`` for one process. Used on its event loop.

    Args:
        folder: of its files.
    """

    def __init__(self, captures: Captures, counters: ProcessCounters, folder: Path) -> None:
        self._captures = captures
        self._counters = counters
        self._folder = folder

    async def start(self, name: str, order: Order) -> CaptureStatus:
        """See ``CaptureControl``.

        Raises:
            NotFound: no such function is declared.
            RequestError: the folder cannot be written (409).
        """
        self._require(name)
        require_folder(self._folder)
        self._captures.order({**self._captures.orders, name: order})
        return await self.status(name)

    async def stop(self, name: str) -> CaptureStatus:
        """See ``CaptureControl``. Raises ``NotFound``."""
        self._require(name)
        orders = self._captures.orders
        self._captures.order({one: orders[one] for one in orders if one != name})
        return await self.status(name)

    async def status(self, name: str) -> CaptureStatus:
        """See ``CaptureControl``. Raises ``NotFound``."""
        declared = self._require(name)
        order, counters = self._captures.orders.get(name), self._counters.find(name)
        return CaptureStatus(
            self._captures.rate_of(name),
            None if order is None else order.until,
            declared,
            str(file_of(self._folder, name)),
            0 if counters is None else counters.captured,
            0 if counters is None else counters.capture_lost,
        )

    def _require(self, name: str) -> float:
        """Return the rate that a function declares."""
        functions = self._captures.functions
        if name not in functions:
            near = did_you_mean(name, known_names(functions)) or "."
            raise NotFound(f"no function is named so{near}")
        return functions[name].spec.rate
