"""What became of a probe's process, in words."""

from __future__ import annotations

import signal
from typing import Final

LINES: Final = 8
FRAMES: Final = 6
WIDTH: Final = 160

_DUMPS: Final = ("Fatal Python error", "Timeout (")
"""What faulthandler begins with; the frames that matter follow, the others come after them."""


def death(status: int, *, out_of_memory: bool) -> str:
    """Why a process ended without a result.

    Args:
        status: its exit code; the negative number of a signal.
        out_of_memory: the system ended some process for want of memory while this one ran.
    """
    if status >= 0:
        return f"its process ended with exit status {status} while it was loading: something in it calls exit."
    name = signal.Signals(-status).name
    if -status == signal.SIGKILL and out_of_memory:
        return "its process was ended by the system while it was loading: out of memory."
    said = f" ({signal.strsignal(-status)})"
    return f"its process died of {name}{said} while it was loading."


def too_slow(timeout_s: float) -> str:
    """It was ended for taking too long."""
    return f"it was still loading after {timeout_s:g} s. If it needs longer, raise WAKEFUL_PROBE_TIMEOUT_S."


def too_large(held: int, limit: int) -> str:
    """It was ended for taking too much memory."""
    return (
        f"loading it took more than the {limit / 1e6:.0f} MB of memory that there are for it ({held / 1e6:.0f} MB when it was ended). "
        "Make it smaller (max_batch_size is warmed up), free memory, or set WAKEFUL_PROBE_MEMORY_MB if you know better."
    )


def tail(written: bytes) -> str:
    """The part of what a process wrote that says most: where it crashed or hung, or its last lines."""
    lines = [line.rstrip()[:WIDTH] for line in written.decode(errors="replace").splitlines() if line.strip(" \t^~")]
    start = next((index for index, line in enumerate(lines) if line.startswith(_DUMPS)), None)
    return "\n".join(lines[start : start + FRAMES] if start is not None else lines[-LINES:])


def with_tail(message: str, written: bytes) -> str:
    """The message, and the last of what it wrote where it wrote anything."""
    last = tail(written)
    return f"{message} It wrote:\n{last}" if last else message
