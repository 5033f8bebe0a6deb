"""The metrics of several processes as one page of Prometheus' text form."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Final

HAPROXY: Final = "haproxy"
"""The process that is the HAProxy of the catalogue's machine; those of others have the machine's
address behind it.
"""

PROCESS: Final = "process"
"""The label that says of which process a number is: the id of a replica. Ray draws a new id for
each replica, so the label has as many values as there were processes. Those of a
``wakeful run --workers`` have numbers, and keep them.
"""


def write_metrics_page(counts: Mapping[str, int], texts: Mapping[str, str]) -> bytes:
    """One page of all: each process sends its own with its reports, and the label of the process is
    added here, to the text: to read it into objects and to write those again takes a second for 200
    functions. Families of the same name are one; ``process`` tells their samples apart.

    Args:
        counts: the number of declared functions by state.
        texts: Prometheus' text form by process, as prometheus_client and
            ``runtime.system.telemetry`` write it.
    """
    states = "".join(
        f'wakeful_declared_functions{{state="{state}"}} {count}\n'
        for state, count in sorted(counts.items())
    )
    families: dict[str, list[str]] = {}
    for process, text in texts.items():
        for family in text.split("# HELP ")[1:]:
            about, kind, *samples = family.splitlines()
            merged = families.setdefault(about.partition(" ")[0], [f"# HELP {about}\n{kind}\n"])
            merged += [_with_label(sample, process) for sample in samples]
    return "".join([_DECLARED, states, *chain.from_iterable(families.values())]).encode()


_DECLARED: Final = (
    "# HELP wakeful_declared_functions Declared functions by `state`, on the whole cluster.\n"
    "# TYPE wakeful_declared_functions gauge\n"
)


def _with_label(sample: str, process: str) -> str:
    """A line of a sample, with the label of its process: the name ends where the labels begin, or
    where there are none at the value.
    """
    name, brace, rest = sample.partition("{")
    if brace:
        return f'{name}{{{PROCESS}="{process}",{rest}\n'
    name, _, value = sample.partition(" ")
    return f'{name}{{{PROCESS}="{process}"}} {value}\n'
