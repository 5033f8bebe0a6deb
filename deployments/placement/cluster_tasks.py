"""The functions of a cluster behind the task routes: called at this machine's HAProxy, as functions
call each other, so that a function answers wherever it is, and wakes there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from deployments.placement.placement import Placement
from deployments.placement.residency import to_callee
from deployments.serving.remote_caller import HttpFunctionCaller
from runtime.batching.calls import CallOptions
from runtime.declaration.function_spec import FunctionSpec
from runtime.execution.function_stage import Outcome
from runtime.http.exchange import Request
from runtime.system.telemetry.trace import CallTrace


class ClusterTasks:
    """Implements ``TaskFunctions`` of ``runtime.http.catalogue.task_routes.handler`` for the
    functions of a cluster.

    Mutable state: ``_known`` (hashes by name of the declarations that the caller knows).
    """

    def __init__(self, placement: Placement, caller: HttpFunctionCaller) -> None:
        self._placement = placement
        self._caller = caller
        self._known: dict[str, str] = {}

    def find(self, name: str) -> FunctionSpec | None:
        """See ``TaskFunctions``."""
        state = self._placement.functions.get(name)
        return None if state is None or state.declaration.part_of else state.spec

    def tasks(self) -> Mapping[str, str]:
        """See ``TaskFunctions``. From the declarations as they were sent: to parse all of a large
        file takes seconds.
        """
        return {
            name: task
            for name, state in self._placement.functions.items()
            if (task := state.declaration.args.get("task")) and not state.declaration.part_of
        }

    def count(self, request: Request, name: str) -> None:
        """See ``TaskFunctions``: the process that answers counts it, in the same trace."""
        request.trace = CallTrace.hand_on(request.fields)

    async def call(
        self, request: Request, name: str, rows: Sequence[dict[str, Any]], options: CallOptions
    ) -> Sequence[Outcome]:
        """See ``TaskFunctions``."""
        declaration = self._placement.functions[name].declaration
        if self._known.get(name) != declaration.hash:
            self._caller.add_functions({name: to_callee(declaration)})
            self._known[name] = declaration.hash
        # its timeouts need a task, which a short call on a hot connection has not
        call = self._caller.call(name, rows, options)
        task = asyncio.get_running_loop().create_task(call)
        try:
            return await task
        finally:
            task.cancel()
