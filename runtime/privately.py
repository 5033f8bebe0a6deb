"""The functions that a function calls, loaded beside it in its process: where no other process has them, as in a probe."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from runtime.batching.rows import Ask
from runtime.errors import WakefulError
from runtime.spec import FunctionSpec


class Answers(Protocol):
    """A loaded function, as far as it is needed here."""

    async def call_rows(self, data: Sequence[Any], ask: Ask, *, as_values: bool) -> tuple[list[dict[str, Any] | WakefulError], Any]: ...
    async def close(self, timeout_s: float) -> None: ...


class Privately:
    """Callees of one function, loaded when it is; see ``runtime.callees.Callees``.

    Mutable state: ``_functions``, emptied by ``close``.
    """

    def __init__(self) -> None:
        self._functions: dict[str, Answers] = {}

    @classmethod
    async def load(cls, spec: FunctionSpec, load: Callable[[FunctionSpec], Awaitable[Answers]]) -> Privately:
        """Loads every function that this one calls.

        Raises:
            LoadError: one of them does not load; nothing is left behind.
        """
        callees = cls()
        try:
            for name, called in spec.calls.items():
                callees._functions[name] = await load(FunctionSpec.from_args(name, called.route_prefix, called.args))
        except BaseException:
            await callees.close()
            raise
        return callees

    async def call(self, name: str, rows: Sequence[dict[str, Any]], ask: Ask) -> Sequence[dict[str, Any] | WakefulError]:
        """See ``Callees``."""
        outcomes, _ = await self._functions[name].call_rows(rows, ask, as_values=True)
        return outcomes

    async def close(self) -> None:
        """Frees them. Idempotent."""
        functions, self._functions = self._functions, {}
        for function in functions.values():
            await function.close(1.0)
