"""The error of a load test that cannot be run as it was asked for."""

from __future__ import annotations

from typing import ClassVar

from runtime.errors import Fault, WakefulError


class LoadTestRefused(WakefulError):
    """Refused before any load begins; ``where`` is the option, or the file and its line."""

    code: ClassVar[str] = "load_test_refused"
    fault: ClassVar[Fault] = "operator"
