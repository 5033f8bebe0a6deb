"""The shared host: one process of the engine for all functions that need no deployment of their own."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import ray
from ray import serve
from ray.util import get_node_ip_address

from deployments import deaths, vault
from deployments.beat import Beat, Words
from deployments.bell import Bell
from deployments.byserve import ByServe
from deployments.calling import Calling
from deployments.front import front
from deployments.nearest import Nearest
from deployments.output import stamp
from deployments.packed import unpack
from deployments.replica import DRAIN_LOOP_S
from deployments.serves import Serves
from deployments.telemetry import BEATS
from runtime.batching.workers import Workers
from runtime.http.library_app import LibraryApp
from runtime.library import Declared, Library
from runtime.local import freeze
from runtime.memory import budget_bytes
from runtime.onnx.first import first_session
from runtime.settings import Settings
from runtime.spec import FunctionSpec

if TYPE_CHECKING:
    from deployments.passing import Passing

HOLD_S: Final = 60.0
"""Longest hold of a call while there is no host: the deadlines of its functions are shorter, and it says so itself when it is back."""

DRAIN_S: Final = 30.0
"""Longest wait for the calls in flight when a host stops; each of them has a deadline of its own besides."""


class Host(Serves):
    """The class Ray Serve deploys.

    Args:
        prefix: where it is mounted; functions whose prefix is below are reached through it.
        owner: the application that owns placement.
        hosts: how many of it there are on this machine; they share the memory budget.
        everywhere: whether there may be others on other machines.
    """

    async def __init__(self, prefix: str, owner: str, hosts: int, everywhere: bool = False) -> None:  # type: ignore[misc]  # Ray awaits it
        self.routes: LibraryApp | Passing | None = None
        settings = Settings.read()
        stamp("host", settings.secrets.hide)
        self._secrets = settings.secrets
        self._deaths = deaths.found()
        cores = len(os.sched_getaffinity(0))
        self._witness = deaths.witness(cores + 1)
        self._workers = Workers(cores, spare=1, witness=self._witness)
        self._callees = Nearest(Calling(front))
        self._library = Library(
            (),
            settings,
            workers=self._workers,
            budget_bytes=budget_bytes(settings) // hosts,
            witness=self._witness,
            callees=self._callees,
            on_change=self._changed,
        )
        self._callees.within(self._library)
        self._keeping = asyncio.get_running_loop().create_task(self._library.keep(), name="keep")
        self._refused: Words = {}
        self._beats = 0
        self._id = serve.get_replica_context().replica_id.unique_id
        self._node = ray.get_runtime_context().get_node_id()
        self._node_ip = get_node_ip_address()  # type: ignore[no-untyped-call]
        self._beat = Beat(owner, self._said, self._hear)
        app = LibraryApp(self._library, condemned=deaths.condemned())
        app.prefix = prefix
        Bell(prefix, HOLD_S, serve.get_replica_context().app_name)
        self._passing = _passing(app, self._library, self._id) if hosts > 1 or everywhere else None
        self.routes = self._passing or app
        first_session()
        freeze()

    def __serve_build_asgi_app__(self) -> ByServe:
        """The routes; Ray calls it once the constructor is done."""
        assert self.routes is not None
        return ByServe(self.routes)

    async def reconfigure(self, user_config: dict[str, str]) -> None:
        """Other functions are declared; those that did not change stay loaded. A coroutine, since Ray runs a plain method in a thread."""
        functions = declared(unpack(user_config["functions"]))
        await vault.learn(self._secrets, [mark for one in functions for mark in one.spec.secrets.values()])
        for one in functions:
            self._callees.calling.learn(one.spec.calls)
        self._library.declare(functions)
        self._beat.soon()

    def check_health(self) -> None:
        """Asked by Ray every few seconds; raising replaces the host.

        Raises:
            RuntimeError: a worker thread has died or hangs, or the task that unloads has died. A function that is broken by itself
                is loaded anew by the library.
        """
        trouble = self._workers.trouble or ("the task that unloads has ended." if self._keeping.done() else "")
        if trouble:
            raise RuntimeError(f"{self._library!r} is to be replaced: {trouble}")

    async def __del__(self) -> None:
        """Ray calls it before the process ends, and does not know of calls that came the short way: they are answered first."""
        if self.routes is None:  # the constructor failed, and its error is the one to be told
            return
        await self._beat.close()
        deadline = time.monotonic() + DRAIN_S
        while self.routes.exchanges and time.monotonic() < deadline:
            await asyncio.sleep(DRAIN_LOOP_S)
        self._keeping.cancel()
        await self._library.close()
        await self._callees.close()
        if self._passing is not None:
            await self._passing.close()
        await asyncio.to_thread(self._workers.close, 1.0)
        self._witness.close()

    def _changed(self, name: str) -> None:
        self._beat.soon()

    def _said(self) -> Words:
        told: Words = {
            "kind": "host",
            "id": self._id,
            "pid": os.getpid(),
            "node": self._node,
            "deaths": self._deaths,
            "refused": self._refused,
            "address": reachable(self.address, self._node_ip),
            "peers": 1 if self._passing is None else len(self._passing.peers),
        }
        self._beats += 1
        if self._beats % BEATS == 1:
            told["metrics"] = self._library.metrics.text().decode()
        report = self._library.report()
        specs, hops = self._library.specs, self._callees.calling.hop_ms
        for name, of in report["functions"].items():
            of["hop_ms"] = {called: hops[called] for called in specs[name].calls if called in hops}
        return {**told, **report}

    def _hear(self, answer: Words) -> None:
        deaths.told(self._deaths)
        self._deaths = []
        if answer["refused"] != self._refused:
            self._refused = answer["refused"]
            self._library.refuse({name: of["reason"] for name, of in self._refused.items()})
        if self._passing is not None:
            self._passing.peers = answer["peers"]
        for name in answer["release"]:
            self._library.release(name)
        for name in answer["load"]:
            self._library.wake(name)


def _passing(app: LibraryApp, library: Library, me: str) -> Passing:
    """Imported by those who have peers only: its HTTP client takes 0.1 s and 8 MB."""
    from deployments.passing import Passing

    return Passing(app, library, me)


def reachable(address: str, node_ip: str) -> str:
    """Where peers reach a process that has seen itself called at an address, which may be the loopback one; empty if it was not called."""
    return f"{node_ip}:{address.rpartition(':')[2]}" if address else ""


def declared(functions: Iterable[dict[str, Any]]) -> list[Declared]:
    """What ``up`` knows of the host's functions, as the library takes it."""
    return [
        Declared(FunctionSpec.from_args(entry["name"], entry["url"], entry["args"]), entry["memory_bytes"], entry["probed"])
        for entry in functions
    ]
