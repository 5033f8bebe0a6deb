"""The ``wakeful`` command, whose functions count nothing where ``UNCOUNTED`` is set: the other side
where the cost of metrics is measured.
"""

from __future__ import annotations

import os
from typing import Final

from deployments.cli import main
from runtime.http.exchange import Request
from runtime.system.telemetry.counters import FunctionCounters

UNCOUNTED: Final = "LOADTESTS_UNCOUNTED"


def _nothing(*_: object) -> None:
    """Counts nothing."""


if __name__ == "__main__":
    if os.environ.get(UNCOUNTED):
        for counted, method in ((Request, "count_as_call"), (FunctionCounters, "record_batch")):
            setattr(counted, method, _nothing)
    main()
