"""The files among a function's answers: opened for a client that takes one as it is, read for every
other answer. Disks are waited for in threads, and not beyond a call's deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from runtime.batching.calls import Call, Row, deadline_error
from runtime.batching.reservation import set_held
from runtime.errors import WakefulError
from runtime.types.files import OpenFile, discard, open_file
from runtime.types.value_types import ValueType

Result = TypeVar("Result")


class AnswerFiles:
    """See the module's docstring. Used on the event loop, unless a method says otherwise.

    Args:
        answer: the types of the answer's values, by name.
        media_type: of the file that the answer is, or the range of it; empty: answers are JSON.

    Attributes:
        media_type: the same.
        are_on_disk: stages may give paths of files in place of their bytes.
    """

    def __init__(self, answer: Mapping[str, ValueType], media_type: str) -> None:
        self.media_type = media_type
        self._name = next(iter(answer), "")
        self._on_disk = {
            name: value.media_type
            for name, value in answer.items()
            if value.media_type and value.annotation is not bytes
        }
        self.are_on_disk = bool(self._on_disk)

    async def open(self, call: Call, max_bytes: int) -> OpenFile:
        """Opens the file that answers the one row of a call.

        Args:
            max_bytes: that a file on disk may have.

        Raises:
            WakefulError: the row's error.
            FunctionError: what the stage gave cannot be sent.
            DeadlineExceeded: the disk did not answer in time.
        """
        (row,) = call.rows
        if row.error is not None:
            raise row.error
        value = row.values[self._name]
        if not self.are_on_disk:
            return open_file(value, self.media_type, max_bytes)
        try:
            return await _within_deadline(
                call, lambda: open_file(value, self.media_type, max_bytes)
            )
        except BaseException:  # it may not have come to its turn in a thread
            self.discard(call)
            raise

    async def read(self, call: Call, opened: OpenFile) -> dict[str, Any]:
        """The answer of a call by the name of its value, with the bytes of its file.

        Raises:
            Overloaded: there is no room for them.
            FunctionError, DeadlineExceeded: as ``open``.
        """
        content = opened.content
        if content is None:
            set_held(call.rows[0], call.rows[0].held + opened.size)
            content = await _within_deadline(call, opened.read)
        return {self._name: content}

    async def read_all(self, call: Call, max_bytes: int) -> None:
        """Puts the bytes of files in the place of what stages gave, in each row. Arguments and
        errors as of ``open``; a row whose file cannot be read fails alone.
        """
        try:
            await _within_deadline(call, lambda: self.read_rows(call.rows, max_bytes))
        except BaseException:
            self.discard(call)
            raise

    def discard(self, call: Call) -> None:
        """The call's answer is not wanted any more: temporary files are removed."""
        for row in call.rows:
            for name in self._on_disk:
                discard(row.values.get(name))

    def read_rows(self, rows: Sequence[Row], max_bytes: int) -> None:
        """As ``read_all``, of rows; in any thread."""
        for row in rows:
            for name, media_type in self._on_disk.items():
                if row.error is not None or name not in row.values:
                    continue
                try:
                    opened = open_file(row.values[name], media_type, max_bytes)
                    if opened.content is None:
                        set_held(row, row.held + opened.size)
                    row.values[name] = opened.read()
                    opened.close()
                except WakefulError as error:
                    row.error = error


async def _within_deadline(call: Call, read: Callable[[], Result]) -> Result:
    """What is read from a disk, in a thread.

    Raises:
        DeadlineExceeded: not before the deadline of the call, for which it is read.
    """
    try:
        async with asyncio.timeout(max(0.0, call.deadline - time.monotonic())):
            return await asyncio.to_thread(read)
    except TimeoutError as error:
        raise deadline_error(call) from error
