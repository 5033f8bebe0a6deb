"""Where a thread is: the frames of the code that it runs for a stage."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Final

from runtime.artifacts.tracebacks import format_frames, is_project_file, is_wakefuls

MOST_LINES: Final = 12
"""Frames that are shown; of a deeper stack the outermost half and the innermost."""


def frames_of(thread_id: int) -> list[FrameType]:
    """The frames of a thread that runs, innermost first; none where it has ended."""
    return list(_outwards(sys._current_frames().get(thread_id)))


def stage_lines(frames: Sequence[FrameType]) -> list[str]:
    """What a stage runs, from its own first line inwards: ``stages.py:12, in answer:
    time.sleep(9)``. Where it runs nothing but the engine's code, a model's session, the innermost
    line of that.

    Args:
        frames: innermost first.
    """
    inner: list[FrameType] = []
    for frame in frames:
        if is_wakefuls(frame.f_code.co_filename):
            break
        inner.append(frame)
    shown = list(reversed(inner or frames[:1]))
    # what lies between the engine and the project's first line is a library's that calls it
    first = next(
        (at for at, frame in enumerate(shown) if is_project_file(frame.f_code.co_filename)), 0
    )
    stack = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in shown[first:])
    lines = list(format_frames(stack))
    if len(lines) > MOST_LINES:
        half = MOST_LINES // 2
        lines[half:-half] = [f"  … {len(lines) - 2 * half} more …"]
    return lines


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
