"""What a process that serves functions reports to the placement controller, each second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from runtime.library.function_report import FunctionReport
from runtime.system.crash.reports import CrashReport
from runtime.system.telemetry.statistics import StatisticsReport


@dataclass(frozen=True, slots=True)
class HaproxyReport:
    """What the HAProxy of a machine has counted, and which promises it keeps.

    Attributes:
        machine: its address in the cluster.
        metrics: in Prometheus' text form.
    """

    machine: str
    metrics: str


@dataclass(frozen=True, slots=True)
class HostReport:
    """The report of a shared host.

    Attributes:
        id: the replica's id.
        pid: of its process.
        crashes: processes that ended on its machine, not yet reported.
        declared: hash of the functions that it knows; empty when it does not say.
        address: where peers reach it; empty before its first call.
        peers: hosts that it knows, itself included.
        functions: by name, those that are loaded or have changed lately.
        used_bytes, budget_bytes: memory of loaded functions.
        metrics: in Prometheus' text form; empty in most reports.
        statistics: what it has counted, of functions that were called lately in most reports.
        haproxy: of its machine, from one process there; None in most reports.
        machine: its address in the cluster.
    """

    id: str
    pid: int = 0
    crashes: tuple[CrashReport, ...] = ()
    declared: str = ""
    address: str = ""
    peers: int | None = None
    functions: Mapping[str, FunctionReport] = field(default_factory=dict)
    used_bytes: int | None = None
    budget_bytes: int | None = None
    metrics: str = ""
    statistics: StatisticsReport = field(default_factory=StatisticsReport)
    haproxy: HaproxyReport | None = None
    machine: str = ""


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """The report of a replica that serves one function.

    Attributes:
        id, pid, crashes, metrics, statistics, haproxy: as of ``HostReport``.
        name: the function's.
        function: what the replica says of it.
        why: the decision that made this deployment; empty where the declaration did.
    """

    id: str
    name: str
    function: FunctionReport
    pid: int = 0
    crashes: tuple[CrashReport, ...] = ()
    why: str = ""
    metrics: str = ""
    statistics: StatisticsReport = field(default_factory=StatisticsReport)
    haproxy: HaproxyReport | None = None


ProcessReport = HostReport | ReplicaReport
