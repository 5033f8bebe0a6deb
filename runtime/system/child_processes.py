"""Processes that this one has forked: they end with it, and how one ended in words."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def end_with_parent(number: signal.Signals) -> None:
    """Have the system send this process a signal when the one that forked it ends, however it does;
    on Linux.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def explain_exit(status: int, *, out_of_memory: bool) -> str:
    """Why a process ended without a result.

    Args:
        status: its exit code; the negative number of a signal.
        out_of_memory: the system ended some process for want of memory while this one ran.
    """
    if status >= 0:
        return (
            f"its process ended with exit status {status} while it was loading: something in it "
            "calls exit."
        )
    if -status == signal.SIGKILL and out_of_memory:
        return "its process was ended by the system while it was loading: out of memory."
    description = signal.strsignal(-status)
    return f"its process died of {signal_name(-status)} ({description}) while it was loading."


def signal_name(number: int) -> str:
    """``SIGSEGV``; of a signal without a name, as most real-time ones are, ``signal 40``."""
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"
