"""A replica of one function: the engine, loaded, behind its own HTTP routes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from ray import serve

from deployments import autoscale, deaths, vault
from deployments.beat import Beat, Words
from deployments.byserve import ByServe
from deployments.calling import Calling
from deployments.front import front
from deployments.gpus import assigned, given
from deployments.output import stamp
from deployments.serves import Serves
from deployments.telling import Telling
from runtime.batching.workers import Workers
from runtime.errors import WakefulError
from runtime.function import Function
from runtime.http.function_app import FunctionApp
from runtime.local import freeze
from runtime.onnx.first import first_session
from runtime.onnx.options import workers
from runtime.settings import Settings
from runtime.spec import FunctionSpec, from_tunables

DRAIN_LOOP_S = 0.1
"""Ray sleeps this long at least once while a replica stops; its default of 2 s is what ``down`` would wait for."""


class Replica(Serves):
    """The class Ray Serve deploys; HAProxy's connections end in its ASGI application.

    Args:
        args: the function's declaration, checked by the builder.
        prefix: where it is mounted, or will be; empty when the builder was not told, and the first call tells.
        owner: the application that owns placement; empty when there is none.
        why: the decision that made this deployment, if one did.

    Raises:
        LoadError: in ``__init__``; Ray reports it as the reason why the application is unhealthy.
    """

    async def __init__(self, args: dict[str, Any], prefix: str = "", owner: str = "", why: str = "") -> None:  # type: ignore[misc]  # Ray awaits it
        began = time.time()
        name = serve.get_replica_context().app_name
        self.routes: FunctionApp | None = None
        settings = Settings.read()
        stamp(name, settings.secrets.hide)
        spec = FunctionSpec.from_args(name, prefix or f"/v2/models/{name}", args)
        await vault.learn(settings.secrets, spec.secrets.values())
        first_session()
        self._deaths = deaths.found()
        count = workers(spec.resources.num_cpus)
        self._witness = deaths.witness(count)
        self._workers = Workers(count, witness=self._witness)
        with self._witness.loading(name):
            gpus = assigned()
            self._calling = Calling(front, spec.calls, loaded=False)
            self._function = await Function.load(
                spec, settings, workers=self._workers, callees=self._calling, gpu=given(settings, gpus.ids)
            )
            self._calling.ready()
        self._telling = Telling(serve.get_replica_context().replica_id.unique_id, self._function, why=why, began=began, gpus=gpus)
        self.routes = FunctionApp(self._function, deaths.condemned())
        self.routes.prefix = prefix or None
        self._beat = Beat(owner, self._said, self._heard)
        freeze()

    def __serve_build_asgi_app__(self) -> ByServe:
        """The routes; Ray calls it once the constructor is done."""
        assert self.routes is not None
        return ByServe(self.routes)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What ``deployments.autoscale`` decides by. A coroutine, since Ray runs a plain method in a thread, five times a second."""
        function = self._function
        return {
            autoscale.CALLS_IN_FLIGHT: function.in_flight,
            autoscale.WAITING_ROWS: function.waiting,
            autoscale.BUSY_S: function.busy_s,
            autoscale.CALLS: function.calls,
            autoscale.ROW_S: function.row_seconds,
            autoscale.SEQUENCES: function.sequences,
        }

    async def __del__(self) -> None:
        """Ray calls it before the process ends, and does not know of calls that came the short way: they are answered first."""
        if self.routes is None:  # the constructor failed, and its error is the one to be told
            return
        await self._beat.close()
        deadline = time.monotonic() + self._function.spec.limits.request_timeout_s
        while self.routes.exchanges and time.monotonic() < deadline:
            await asyncio.sleep(DRAIN_LOOP_S)
        await self._function.close(max(0.0, deadline - time.monotonic()))
        await self._calling.close()
        await asyncio.to_thread(self._workers.close, 1.0)
        self._witness.close()

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Batching and limits changed; nothing restarts. A coroutine, since Ray runs a plain method in a thread."""
        self._function.retune(from_tunables(self._function.spec, user_config))

    def check_health(self) -> None:
        """Asked by Ray every few seconds; raising takes the replica out of service.

        Raises:
            RuntimeError: the function can answer no more: a worker thread has died or hangs, or a session is broken.
        """
        if trouble := self._function.trouble:
            raise RuntimeError(f"{self._function!r} is to be replaced: {trouble}")

    async def call(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows by a deployment handle: for each its answer, or the error form."""
        outcomes, _ = await self._function.call_rows(rows)
        return [row.body("") if isinstance(row, WakefulError) else row for row in outcomes]

    def _said(self) -> Words:
        return {**self._telling.words(self._deaths), "hop_ms": self._calling.hop_ms}

    def _heard(self, answer: Words) -> None:
        deaths.told(self._deaths)
        self._deaths = []
