"""The application at ``/``: it knows every function and never sleeps; no user code runs in it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from ray import serve
from starlette.applications import Starlette

from deployments.states import states
from runtime.http.catalogue_app import catalogue

STATUS_TTL_S = 0.5
"""Ray's status costs a call to the controller; many who look at once share one."""


class Catalogue:
    """The class Ray Serve deploys.

    Mutable state: ``_functions`` (what ``wakeful up`` declared), ``_seen`` and ``_seen_at`` (the last status and its time).
    """

    def __init__(self) -> None:
        self._functions: dict[str, dict[str, Any]] = {}
        self._seen: list[dict[str, Any]] = []
        self._seen_at = 0.0
        self._own = serve.get_replica_context().app_name

    def __serve_build_asgi_app__(self) -> Starlette:
        """The routes; Ray calls it once the constructor is done."""
        return catalogue(self._index)

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Other functions are declared."""
        self._functions = {entry["name"]: entry for entry in user_config["functions"]}
        self._seen_at = 0.0

    async def _index(self) -> list[dict[str, Any]]:
        if time.monotonic() - self._seen_at > STATUS_TTL_S:
            found = await asyncio.to_thread(lambda: states(serve.status()))
            self._seen = [self._entry(state) for state in found if state["name"] != self._own]
            self._seen_at = time.monotonic()
        return self._seen

    def _entry(self, state: dict[str, Any]) -> dict[str, Any]:
        declared = self._functions.get(state["name"], {})
        return {
            "name": state["name"],
            "state": state["state"],
            "url": declared.get("url", f"/v2/models/{state['name']}"),
            "reason": state["message"],
            "description": declared.get("description", ""),
        }
