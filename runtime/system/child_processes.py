"""Processes that this one has started: they end with it, however it ends, and never return to its
code; how one is ended, and how it ended, in words.

The system ends them (on Linux), so it also holds where the parent is killed and can say nothing.
*The parent* is the thread that started the process: it must live for as long as the process is
wanted.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any, Final, NoReturn

_PR_SET_PDEATHSIG: Final = 1


def end_with_parent(number: signal.Signals) -> None:
    """Have the system send this process a signal when the one that forked it ends. One that ended
    before is not noticed.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def ending_with_parent(number: signal.Signals) -> Callable[[], None]:
    """The same for a program that is started: ``preexec_fn`` of ``subprocess.Popen``."""
    if sys.platform != "linux":
        return lambda: None
    # found before the fork, in which a lock of the loader may be held for ever
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def end_with_it() -> None:
        prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os._exit(1)

    return end_with_it


def run_and_exit(serve: Callable[[], int]) -> NoReturn:
    """End this process with the status that ``serve`` returns; 1, and a traceback, if it raises."""
    status = 1
    try:
        status = serve()
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def wait_or_kill(process: subprocess.Popen[Any], limit_s: float) -> int:
    """Return the exit status of a process, which is killed where it has none after ``limit_s``."""
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def end_by_closing(process: subprocess.Popen[bytes], limit_s: float) -> None:
    """End a process that ends with its input, or is killed after ``limit_s``; its pipes are closed
    then.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended, with input that it did not read
        process.stdin.close()
    wait_or_kill(process, limit_s)
    process.stdout.close()


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
