"""A process that ends when the one that started it does, however that ends; on Linux.

The system does it, so it also holds where the parent is killed and can say nothing. *The parent* is
the thread that started the process: it must live for as long as the process is wanted.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

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
