"""What ran in a process when it died, and which rows and functions are refused for it.

A process records its work while it lives (``recorder``); another process reads the record after its
death (``reports``) and decides which rows run alone or not at all (``quarantine``). Called by the
batcher's workers, the library, the edge and the placement controller; imports what is beside it.
"""

from runtime.system.crash.quarantine import RowDecision, RowQuarantine
from runtime.system.crash.recorder import CrashRecorder
from runtime.system.crash.reports import CrashReport, mark_reported, read_crash_reports

__all__ = [
    "CrashRecorder",
    "CrashReport",
    "RowDecision",
    "RowQuarantine",
    "mark_reported",
    "read_crash_reports",
]
