"""Random orders of events in the simulated cluster (``simulated``)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Generator

import pytest

from deployments.placement import controller
from tests.deployments.placement.simulated import (
    TICK_S,
    Declared,
    RayError,
    World,
    declared,
    planned,
)
from tests.deployments.placement.simulated_ray import run_in_simulated_time

NAMES = ("a", "b", "c", "theirs")


class Story:
    """One random order of events, and its end.

    Args:
        seed: of it.

    Mutable state: ``file`` (what is declared), ``wakeful`` (the command under way), ``broken``
    (versions that crash, by name).
    """

    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        self.random = random.Random(-1 - seed)
        self.file: dict[str, Declared] = {name: declared(name, 0) for name in ("a", "b", "theirs")}
        self.versions = dict.fromkeys(NAMES, 0)
        self.wakeful: Generator[None, None, None] | None = None
        self.events: list[str] = []

    def run(self, seconds: float = 90.0) -> list[str]:
        """Events for so long, then peace; what is wrong in the end. Nothing is logged: most of the
        time would go into tracebacks.
        """
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(controller.logger, "disabled", True)
            return run_in_simulated_time(lambda: self._run(seconds))

    async def _run(self, seconds: float) -> list[str]:
        with self.world.serve.installed({"CPU": 9.0}):
            self.world.begin(planned(self.file.values()))
            until = self.world.now + seconds
            while self.world.now < until:
                if self.random.random() < 0.15:
                    self._event()
                await self._tick()
            found = await self._settle()
            self.world.kill_owner()
            return found + self.world.faults

    async def _tick(self) -> None:
        if self.wakeful is not None:
            try:
                next(self.wakeful)
            except StopIteration:
                self.wakeful = None
            except RayError as error:
                self.events.append(f"{self.world.now}: failed: {error}")
                self.wakeful = None
        self.world.tick()
        await asyncio.sleep(TICK_S)

    def _event(self) -> None:
        world, name = self.world, self.random.choice(NAMES)
        kind = self.random.choices(
            [
                "busy",
                "idle",
                "controller",
                "owner",
                "host",
                "crash",
                "add",
                "remove",
                "change",
                "fix",
                "down",
            ],
            [6, 3, 2, 2, 1, 3, 2, 2, 2, 2, 1],
        )[0]
        if kind in ("add", "remove", "change", "fix", "down") and self.wakeful is not None:
            return
        self.events.append(f"{world.now}: {kind} {name}")
        match kind:
            case "busy":
                world.load[name] = 0.9
            case "idle":
                world.load[name] = 0.0
            case "controller":
                world.kill_controller()
            case "owner":
                world.kill_owner()
            case "host":
                world.kill_host()
            case "crash":
                for _ in range(self.random.choice((1, 4))):
                    world.die(name, {one["name"]: one for one in world.host or ()})
                world.kill_host(name)
            case "down":
                if name in self.file:
                    del self.file[name]
                    self.wakeful = world.down(name)
            case _:
                self._edit(kind, name)
                self.wakeful = world.update(planned(self.file.values()))

    def _edit(self, kind: str, name: str) -> None:
        previous = self.file.pop(name, None)
        if kind == "remove":
            return
        if kind == "change":
            self.versions[name] += 1
        fixed = name != "theirs" and (
            bool(previous and previous["is_always_own"]) if kind == "change" else kind == "fix"
        )
        self.file[name] = declared(name, self.versions[name], fixed=fixed)

    def _repair(self) -> None:
        """One of them has brought down four processes just now, which the controller gets when
        the next version is declared.
        """
        known = {one["name"]: one for one in self.world.host or ()}
        for name in list(self.file):
            self.versions[name] += 1
            self.file[name] = declared(
                name, self.versions[name], fixed=self.file[name]["is_always_own"]
            )
        if known:
            culprit = self.random.choice(sorted(known))
            for _ in range(3):
                self.world.die(culprit, known)
            self.world.kill_host(culprit)

    async def _settle(self) -> list[str]:
        """No more faults; in half of the stories every function is repaired, in the others one is
        taken down once more; `up` is repeated until it is done, and half of the functions stay busy."""
        world = self.world
        while self.wakeful is not None:
            await self._tick()
        is_repaired = self.random.random() < 0.5
        if is_repaired:
            self._repair()
        elif self.file:
            self.wakeful = world.down(self.random.choice(sorted(self.file)))
            while self.wakeful is not None:
                await self._tick()
        plan = planned(self.file.values())
        for name in NAMES:
            world.load[name] = 0.9 * (self.random.random() < 0.5)
        tries = 0
        while world.up != plan.deployed:
            tries += 1
            if tries > 10:
                return ["`up` is never done"]
            world.is_calm = tries > 1
            self.wakeful = world.update(plan)
            while self.wakeful is not None:
                await self._tick()
        world.is_calm = True
        until, since = world.now + 420.0, None
        while world.now < until:
            await self._tick()
            wrong = world.wrong(self.file.values())
            wrong += [
                f"{name} was repaired and is quarantined"
                for name, is_so in world.quarantined().items()
                if is_so and is_repaired
            ]
            since = None if wrong else since or world.now
            if since is not None and world.now - since > 20 and not world.later:
                return []
        return wrong or ["it never comes to rest"]
