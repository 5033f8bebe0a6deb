"""Whether a loaded function can still answer: what its threads say of themselves, and its first run again where its batches raise doubt."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from runtime.batching.batcher import Batcher
from runtime.errors import WakefulError
from runtime.fields import RowValidator
from runtime.segments import Segment
from runtime.spec import FunctionSpec
from runtime.warmup import run

logger = logging.getLogger("wakeful.function")

TEST_S = 30.0
"""How long a test may take: it waits for no queue, and what it runs took milliseconds when the function was loaded."""


class Vitals:
    """Watches one function.

    Args:
        spec: its declaration; the test runs its example, or its models on made-up data.
        batcher: its; is told how long callers wait, and says when to doubt.

    Attributes:
        on_trouble: called on the event loop, once, when the function is found broken; its threads' trouble is everybody's, and not told.

    Mutable state, on the event loop only: ``_broken`` (why, once it is), ``_test`` (the test under way), ``_is_closed``.
    """

    def __init__(self, spec: FunctionSpec, validator: RowValidator, segments: Sequence[Segment], batcher: Batcher) -> None:
        self.on_trouble: Callable[[], None] = _nobody
        self._validator = validator
        self._segments = segments
        self._batcher = batcher
        self._broken = ""
        self._test: asyncio.Task[None] | None = None
        self._is_closed = False
        batcher.on_doubt = self._doubts
        self.retune(spec)

    def __repr__(self) -> str:
        return f"<Vitals {self._spec.name}: {self.trouble or 'well'}{', being tested' if self._test is not None else ''}>"

    @property
    def trouble(self) -> str:
        """Why the function cannot answer, or its threads cannot; empty when all is well."""
        return self._broken or self._batcher.trouble

    def retune(self, spec: FunctionSpec) -> None:
        """Takes other limits."""
        self._spec = spec
        self._batcher.timeout_s = spec.limits.request_timeout_s

    def close(self) -> None:
        """Tests nothing more; a run that is under way in a thread ends by itself. Idempotent."""
        self._is_closed = True
        self._batcher.on_doubt = lambda reason: None  # the batcher must not keep what is closed
        self.on_trouble = _nobody
        if self._test is not None:
            self._test.cancel()

    def _doubts(self, reason: str) -> None:
        if self._is_closed or self._broken:
            return
        if reason:
            self._breaks(reason)
        elif self._test is None:
            self._test = asyncio.create_task(self._run(), name=f"test {self._spec.name}")

    async def _run(self) -> None:
        """One row through everything, beside the queues."""
        reason = ""
        try:
            async with asyncio.timeout(TEST_S):
                await run(self._spec, self._validator, self._segments, 1)
        except TimeoutError:
            reason = f"a run that succeeded before it was ready did not end within {TEST_S:g} s."
        except Exception as error:  # whatever it is, the same run succeeded before
            said = error.message if isinstance(error, WakefulError) else f"{type(error).__name__}: {error}"
            reason = f"a run that succeeded before it was ready fails: {said}"
        finally:
            self._test = None
        if reason and not self._is_closed:
            self._breaks(reason)

    def _breaks(self, reason: str) -> None:
        self._broken = reason
        logger.error("%s is broken: %s", self._spec.name, reason)
        self.on_trouble()


def _nobody() -> None:
    """Who is told before anybody asked to be."""
