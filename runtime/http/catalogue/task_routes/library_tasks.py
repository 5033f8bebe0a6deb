"""The functions of a library behind the task routes: called in this process, without a socket."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from runtime.batching.calls import Call, CallOptions
from runtime.declaration.function_spec import FunctionSpec
from runtime.execution.function_stage import Outcome
from runtime.http.exchange import Request
from runtime.library.library import FunctionLibrary, LocalFunctionCaller


class LibraryTasks:
    """Implements ``runtime.http.catalogue.task_routes.handler.TaskFunctions`` for a library, whose
    functions it may load.
    """

    def __init__(self, library: FunctionLibrary) -> None:
        self._library = library
        self._caller = LocalFunctionCaller(library)

    def find(self, name: str) -> FunctionSpec | None:
        """See ``TaskFunctions``."""
        spec = self._library.find_spec(name)
        return None if spec is None or spec.part_of else spec

    def tasks(self) -> Mapping[str, str]:
        """See ``TaskFunctions``."""
        specs = self._library.specs.values()
        return {spec.name: spec.task for spec in specs if spec.task and not spec.part_of}

    def count(self, request: Request, name: str) -> None:
        """See ``TaskFunctions``."""
        request.count_as_call(self._library.counters.of(name))

    async def call(
        self, request: Request, name: str, rows: Sequence[dict[str, Any]], options: CallOptions
    ) -> Sequence[Outcome]:
        """See ``TaskFunctions``."""
        began, is_asleep = time.monotonic(), self._library.loaded(name) is None

        def on_call(call: Call | None) -> None:
            request.call = call  # of several parts the last
            if is_asleep and call is not None:
                request.wake_s = call.started - began

        return await self._caller.call(name, rows, options, on_call)
