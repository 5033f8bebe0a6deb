"""Random updates under callers: functions, their callers and split stages, names, prefixes and
places change, some versions do not start, and processes are killed meanwhile. No call is lost or
refused, and each answer is of a version that was declared while the call was under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import psutil

from deployments.loadtest.calls.answers import WrongAnswer
from loadtests import declare
from loadtests.command import say
from loadtests.faults.run import Run
from loadtests.ledger import Request, client_of

CALLERS: Final = 4

LOAD_S: Final = 0.5
"""How long a version takes to load: long enough to be called too early."""

REPLICAS: Final = "ServeReplica:"

SEED: Final = 19


@dataclass(frozen=True)
class Declared:
    """A function of the file.

    Attributes:
        is_own: with a deployment of its own, of one replica.
        calls: the function that answers for it; empty: it answers itself.
        part: its second stage has a deployment of so many replicas at least; None: it has none.
        is_faulty: this version does not start.
    """

    name: str
    version: int
    prefix: str
    is_own: bool = False
    calls: str = ""
    part: int | None = None
    is_faulty: bool = False

    def to_application(self) -> declare.Application:
        """Its entry in the file."""
        if self.calls:
            graph: list[dict[str, Any]] = [{"stage": "call", "function": self.calls}]
        else:
            settings = {"name": self.name, "version": self.version, "load_s": LOAD_S}
            fault = {"fault": "raises on Ray"} if self.is_faulty else {}
            graph = [
                {
                    "stage": "sign",
                    "python": "loadtests.stages:Sign",
                    "with": {**settings, **fault},
                },
                {"stage": "on", "python": "loadtests.stages:hand_on"},
            ]
            if self.part is not None:
                graph[1]["deployment"] = {"num_cpus": 0.25, "min_replicas": self.part}
        scaling = {"min_replicas": int(self.is_own), "downscale_to_zero_delay_s": 60}
        more = {"autoscaling": scaling, "resources": {"num_cpus": 0.25}}
        return {**declare.function(self.name, graph, **more), "route_prefix": self.prefix}


Snapshot = Mapping[str, tuple[str, int]]
"""By function: which one answers for it, and in which version."""


class Story:
    """A file that changes at random, and what callers may be answered. Equal for equal seeds.

    Mutable state: ``functions`` (as declared last, by name), ``_steady`` (those that callers call:
    in the file before as well, at the same prefix), ``_declared`` (what was declared, from when,
    and until when it may answer), ``_version`` (the last one).
    """

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._chance_of_callers = random.Random(seed)
        self._version = 0
        self.functions: dict[str, Declared] = {}
        for number in range(6):
            self._add(f"f{number}")
        self._steady = dict(self.functions)
        self._declared: list[tuple[float, float, Snapshot]] = [(0.0, math.inf, self._snapshot())]

    @property
    def applications(self) -> list[declare.Application]:
        """The file."""
        return [one.to_application() for one in self.functions.values()]

    def change(self) -> str:
        """Makes the next file of one to three changes; says which. Versions of it may answer from
        now on.
        """
        before = self.functions
        self.functions = dict(before)
        words = [self._change() for _ in range(self._chance.choice((1, 1, 2, 3)))]
        self._steady = {
            name: one
            for name, one in before.items()
            if name in self.functions and self.functions[name].prefix == one.prefix
        }
        self._declared.append((time.time(), math.inf, self._snapshot()))
        return ", ".join(filter(None, words))

    def make_faulty(self) -> str:
        """Perhaps a version that does not start, of a function with a deployment; which, or
        nothing. ``mend`` afterwards.
        """
        own = [one for one in self.functions.values() if one.is_own and not one.calls]
        if not own or self._chance.random() > 0.2:
            return ""
        one = self._chance.choice(own)
        self.functions[one.name] = replace(one, version=-1, is_faulty=True)
        return one.name

    def mend(self, name: str) -> None:
        """The same function with a version that starts."""
        one = replace(self.functions[name], version=self._next_version(), is_faulty=False)
        self.functions[name] = one
        self._declared.append((time.time(), math.inf, self._snapshot()))

    def settle(self) -> None:
        """The last file is taken: what was declared before does not answer calls from now on."""
        now = time.time()
        earlier = [(since, min(until, now), of) for since, until, of in self._declared[:-1]]
        self._declared = [*earlier, self._declared[-1]]
        self._steady = dict(self.functions)

    def make(self, number: int) -> Request:
        """A call of one of the functions that callers know."""
        one = self._chance_of_callers.choice(list(self._steady.values()))
        began = time.time()

        def check(answer: Any) -> None:
            during = [of for since, until, of in self._declared if until >= began]
            pairs = {(of[one.name][0], answer["version"]) for of in during if one.name in of}
            declared = {pair for of in during for pair in of.values()}
            said = (answer["name"], answer["version"])
            if answer["x"] != number or said not in pairs & declared:
                raise WrongAnswer(f"{said} of {one.name} was not declared then")

        body = json.dumps({"x": number}).encode()
        return Request(f"update-{number}", one.prefix, body, check)

    def _snapshot(self) -> Snapshot:
        return {
            name: (root := one.calls or name, self.functions[root].version)
            for name, one in self.functions.items()
        }

    def _next_version(self) -> int:
        self._version += 1
        return self._version

    def _add(self, name: str, **more: Any) -> None:
        one = Declared(
            name, self._next_version(), f"/v2/models/{name}", self._chance.random() < 0.4, **more
        )
        self.functions[name] = one

    def _change(self) -> str:
        """One change, in words; empty where it would leave a file that is wrong."""
        chance, functions = self._chance, self.functions
        one = chance.choice(list(functions.values()))
        called = {other.calls for other in functions.values()}
        kind = chance.choice(
            ("version", "version", "add", "remove", "rename", "place", "part", "prefix", "call")
        )
        new = next(name for number in range(99) if (name := f"f{number}") not in functions)
        match kind:
            case "version" if not one.calls:
                functions[one.name] = replace(one, version=self._next_version())
            case "add" if len(functions) < 9:
                self._add(new)
                if chance.random() < 0.5 and one.name not in called:  # and is called at once
                    functions[one.name] = replace(one, calls=new, part=None)
                    one = functions[new]
            case "remove" if len(functions) > 4:
                del functions[one.name]
                for other in [other for other in functions.values() if other.calls == one.name]:
                    functions[other.name] = replace(other, calls="", version=self._next_version())
            case "rename" if not one.calls:
                del functions[one.name]
                renamed = replace(one, name=new, version=self._next_version())
                functions[new] = replace(renamed, prefix=f"/v2/models/{new}")
                for other in [other for other in functions.values() if other.calls == one.name]:
                    functions[other.name] = replace(other, calls=new)
            case "place" if one.prefix.startswith("/v2/models/"):
                functions[one.name] = replace(one, is_own=not one.is_own)
            case "part" if not one.calls:
                part = chance.choice((0, 1)) if one.part is None else None
                functions[one.name] = replace(one, part=part, version=self._next_version())
            case "prefix" if one.is_own:
                prefix = f"/moved/{one.name}/{self._next_version()}"
                functions[one.name] = replace(one, prefix=prefix)
            case "call" if one.name not in called:
                others = [other for other in functions.values() if not other.calls and other != one]
                callee = "" if one.calls or not others else chance.choice(others).name
                version = self._next_version()
                functions[one.name] = replace(one, calls=callee, part=None, version=version)
            case _:
                return ""
        return f"{kind} {one.name}"


async def updates(run: Run, amount: int) -> None:
    """Random updates, one after the other, and kills."""
    story, chance = Story(SEED), random.Random(SEED)
    took: list[float] = []
    kills = faulty = 0

    async def kill() -> None:
        nonlocal kills
        await asyncio.sleep(chance.uniform(0, 6))
        titled = await asyncio.to_thread(run.server.titled, REPLICAS)
        victims = [one for one in titled if "catalogue" not in " ".join(one.cmdline())]
        if victims:
            kills += 1
            with contextlib.suppress(psutil.NoSuchProcess):
                chance.choice(victims).kill()

    async def change() -> None:
        nonlocal faulty
        for number in range(amount):
            await asyncio.sleep(chance.choice((0, 0.5, 2)))
            words = story.change()
            fault = story.make_faulty()
            killing = asyncio.ensure_future(kill()) if number % 3 == 2 else None
            began = time.time()
            code = await run.up(*story.applications)
            if fault:
                faulty += 1
                if not code:
                    run.missed.append(f"a version of {fault} that does not start was taken")
                story.mend(fault)
                code = await run.up(*story.applications)
            elif code and killing is not None:  # the kill may have met a version that was starting
                await killing
                code = await run.up(*story.applications)
            took.append(time.time() - began)
            say(f"update {number + 1} of {amount}: {words}, {fault or 'no'} fault: {code}")
            if killing is not None:
                await killing
            if code:
                run.missed.append(f"update {number + 1} ({words}) was not taken")
            else:
                story.settle()

    server = run.server
    async with client_of(run.ledger, server.port, story.make, server.door) as client:
        task = asyncio.ensure_future(change())
        await client.closed(CALLERS, lambda: not task.done())
        await task
    run.more += [
        f"{kills} kills, {faulty} versions that did not start",
        f"an `up` took at most {max(took):.0f} s",
    ]
    run.note_latency()


def story_functions() -> list[declare.Application]:
    """What the story begins with."""
    return Story(SEED).applications
