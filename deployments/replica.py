"""A replica of one function: the engine, loaded, behind its own HTTP routes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from ray import serve

from deployments.autoscale import METRIC
from deployments.output import stamp
from runtime.errors import WakefulError
from runtime.function import Function
from runtime.http.function_app import FunctionApp
from runtime.local import freeze
from runtime.settings import Settings
from runtime.spec import FunctionSpec, from_tunables

DRAIN_LOOP_S = 0.1
"""Ray sleeps this long at least once while a replica stops; its default of 2 s is what ``down`` would wait for."""


class Replica:
    """The class Ray Serve deploys; HAProxy's connections end in its ASGI application.

    Args:
        args: the function's declaration, checked by the builder.

    Raises:
        LoadError: in ``__init__``; Ray reports it as the reason why the application is unhealthy.
    """

    async def __init__(self, args: dict[str, Any]) -> None:  # type: ignore[misc]  # Ray awaits it
        name = serve.get_replica_context().app_name
        self.routes: FunctionApp | None = None
        stamp(name)
        spec = FunctionSpec.from_args(name, f"/v2/models/{name}", args)
        self._function = await Function.load(spec, Settings.read())
        self.routes = FunctionApp(self._function)
        freeze()

    def __serve_build_asgi_app__(self) -> FunctionApp:
        """The routes; Ray calls it once the constructor is done."""
        assert self.routes is not None
        return self.routes

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What ``deployments.autoscale`` decides by."""
        return {METRIC: self._function.in_flight}

    async def __del__(self) -> None:
        """Ray calls it before the process ends, and does not know of calls that came the short way: they are answered first."""
        if self.routes is None:  # the constructor failed, and its error is the one to be told
            return
        deadline = time.monotonic() + self._function.spec.limits.request_timeout_s
        while self.routes.exchanges and time.monotonic() < deadline:
            await asyncio.sleep(DRAIN_LOOP_S)
        await self._function.close(max(0.0, deadline - time.monotonic()))

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Batching and limits changed; nothing restarts."""
        self._function.retune(from_tunables(self._function.spec, user_config))

    def check_health(self) -> None:
        """Asked by Ray every few seconds; raising takes the replica out of service.

        Raises:
            RuntimeError: a worker thread has died.
        """
        if not self._function.is_healthy:
            raise RuntimeError(f"{self._function!r} has lost a worker thread.")

    async def call(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows by a deployment handle: for each its answer, or the error form."""
        outcomes, _ = await self._function.call_rows(rows)
        return [row.body("") if isinstance(row, WakefulError) else row for row in outcomes]
