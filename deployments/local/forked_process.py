"""The life of a process that ``run`` has forked, which never returns to what forked it."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn


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
