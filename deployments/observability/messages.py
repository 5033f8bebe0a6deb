"""What crosses between the processes of a cluster: reports to the placement controller, its orders,
and declared functions.

On the wire each message is plain data (``to_dict``): Ray carries it between processes of one
cluster, and ``/functions`` shows parts of it. Code works with the classes; only ``from_dict`` and
``to_dict`` know the keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, Final

from runtime.declaration.function_spec import FunctionSpec, hash_of
from runtime.library.capture.captures import Order
from runtime.system.crash.reports import CrashReport
from runtime.types.json_schemas import InterfaceDescription

Report = dict[str, Any]
"""Plain JSON data: a message on the wire, or a part of a page."""


@dataclass(frozen=True)
class FunctionDeclaration:
    """A function as ``wakeful up`` declares it to the placement controller and to the hosts.

    Attributes:
        name: its name, and the name of its application.
        url: its route prefix.
        args: its declaration as it was sent, secrets as marks.
        is_always_own: it has a deployment of its own from the start and for good.
        version: its version hash (``identity`` on the wire).
        memory_bytes: what the probe measured; 0 when it did not.
        is_probed: the probe has loaded it.
        part_of: the function whose stage it is; empty for a function of the file.
        also_at: other prefixes where it may be, while an update moves it.
        interface: what it takes and answers, for the catalogue's OpenAPI; None: it is not known.
    """

    name: str
    url: str
    args: Mapping[str, Any]
    is_always_own: bool
    version: str
    memory_bytes: int = 0
    is_probed: bool = False
    part_of: str = ""
    interface: InterfaceDescription | None = None
    also_at: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FunctionDeclaration:
        """From the wire form."""
        return cls(
            data["name"],
            data["url"],
            data["args"],
            data["fixed"],
            data["identity"],
            data.get("memory_bytes", 0),
            data.get("probed", False),
            data.get("part_of", ""),
            data.get("interface"),
            tuple(data.get("also_at", ())),
        )

    def to_dict(self) -> Report:
        """The wire form."""
        return {
            "name": self.name,
            "url": self.url,
            "args": self.args,
            "fixed": self.is_always_own,
            "identity": self.version,
            "memory_bytes": self.memory_bytes,
            "probed": self.is_probed,
            "part_of": self.part_of,
            **({"interface": self.interface} if self.interface is not None else {}),
            **({"also_at": list(self.also_at)} if self.also_at else {}),
        }

    @cached_property
    def spec(self) -> FunctionSpec:
        """The parsed declaration. Parsed at first use: most functions of a large file sleep."""
        return FunctionSpec.from_args(self.name, self.url, self.args)

    @cached_property
    def hash(self) -> str:
        """A short hash of the prefix and the declaration, code and models included: with another
        one the function is declared again. Equal in every process that got the same message.
        """
        return hash_of([self.url, self.args])


def hash_declarations(declarations: Iterable[FunctionDeclaration]) -> str:
    """A short hash of several declared functions, in any order."""
    return hash_of(sorted((declaration.name, declaration.hash) for declaration in declarations))


@dataclass(frozen=True, slots=True)
class FunctionReport:
    """What one process says of one function that it serves.

    Attributes:
        state: ``waking``, ``ready``, ``draining``, ``failed`` or ``asleep``.
        reason: why it is in that state; of a loaded function, what is amiss with it.
        version: the version hash of what is loaded; empty when nothing is.
        update: what becomes of another version: empty, ``loading``, or why it was not taken.
        device: what its models run on (``DeviceReport`` as plain data); None while not loaded.
        in_flight: calls accepted and not answered.
        waiting_rows: rows that wait for a worker.
        calls, busy_s: calls accepted, and seconds of worker threads, since it was loaded.
        sequences: sequences that live in the process.
        idle_s: seconds since the last call came or was answered.
        p95_ms: latency of the latest calls; None when there were too few.
        memory_bytes: what it holds.
        last_wake: its last cold start (``name``, ``at``, ``phases``, ``total_s``), or None.
        loads: how often this process has loaded it.
        hop_ms: by called function, what a call costs beyond the function's own time.
        minute: the calls of the last minute (``Traffic.to_wire``).
        gpus, node: devices that Ray gave the process, and its node; of replicas only.
    """

    state: str = "ready"
    reason: str = ""
    version: str = ""
    update: str = ""
    device: Mapping[str, Any] | None = None
    in_flight: int = 0
    waiting_rows: int = 0
    calls: int = 0
    busy_s: float = 0.0
    sequences: int = 0
    idle_s: float = 0.0
    p95_ms: float | None = None
    memory_bytes: int = 0
    last_wake: Mapping[str, Any] | None = None
    loads: int = 1
    hop_ms: Mapping[str, float] = field(default_factory=dict)
    minute: Sequence[Any] = ()
    gpus: tuple[str, ...] = ()
    node: str = ""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FunctionReport:
        """From the wire form."""
        return cls(**{key: data[key] for key in _FUNCTION_KEYS if key in data})

    def to_dict(self) -> Report:
        """The wire form."""
        return {key: getattr(self, key) for key in _FUNCTION_KEYS}

    @property
    def loaded_at(self) -> float:
        """When its last load began, seconds since the epoch; 0 before the first."""
        return float(self.last_wake["at"]) if self.last_wake else 0.0


_FUNCTION_KEYS: Final = tuple(one.name for one in fields(FunctionReport))


@dataclass(frozen=True, slots=True)
class HostReport:
    """The report of a shared host.

    Attributes:
        id: the replica's id.
        pid: of its process.
        crashes: processes that ended on its machine, not yet reported (``deaths`` on the wire).
        declared: hash of the functions that it knows; empty when it does not say.
        address: where peers reach it; empty before its first call.
        peers: hosts that it knows, itself included.
        functions: by name, those that are loaded or have changed lately.
        used_bytes, budget_bytes: memory of loaded functions.
        metrics: in Prometheus' text form; empty in most reports.
        statistics: what it has counted of functions that were called lately, by name
            (``FunctionStatistics.to_list``).
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
    statistics: Mapping[str, list[Any]] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HostReport:
        """From the wire form."""
        return cls(
            data["id"],
            data.get("pid", 0),
            _crashes_from(data),
            data.get("declared", ""),
            data.get("address", ""),
            data.get("peers"),
            {name: FunctionReport.from_dict(of) for name, of in data["functions"].items()},
            data.get("used_bytes"),
            data.get("budget_bytes"),
            data.get("metrics", ""),
            data.get("statistics", {}),
        )

    def to_dict(self) -> Report:
        """The wire form."""
        return {
            "kind": "host",
            "id": self.id,
            "pid": self.pid,
            "deaths": [asdict(crash) for crash in self.crashes],
            "declared": self.declared,
            "address": self.address,
            "peers": self.peers,
            "functions": {name: of.to_dict() for name, of in self.functions.items()},
            "used_bytes": self.used_bytes,
            "budget_bytes": self.budget_bytes,
            **({"metrics": self.metrics} if self.metrics else {}),
            **({"statistics": self.statistics} if self.statistics else {}),
        }


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """The report of a replica that serves one function.

    Attributes:
        id, pid, crashes, metrics, statistics: as of ``HostReport``.
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
    statistics: Mapping[str, list[Any]] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ReplicaReport:
        """From the wire form, in which the function's keys lie next to the replica's."""
        return cls(
            data["id"],
            data["function"],
            FunctionReport.from_dict(data),
            data.get("pid", 0),
            _crashes_from(data),
            data.get("why", ""),
            data.get("metrics", ""),
            data.get("statistics", {}),
        )

    def to_dict(self) -> Report:
        """The wire form."""
        return {
            "kind": "own",
            "id": self.id,
            "pid": self.pid,
            "deaths": [asdict(crash) for crash in self.crashes],
            "function": self.name,
            "why": self.why,
            **self.function.to_dict(),
            **({"metrics": self.metrics} if self.metrics else {}),
            **({"statistics": self.statistics} if self.statistics else {}),
        }


def report_from_dict(data: Mapping[str, Any]) -> HostReport | ReplicaReport:
    """A report from the wire form; ``kind`` says of which process it is."""
    return (ReplicaReport if data["kind"] == "own" else HostReport).from_dict(data)


def _crashes_from(data: Mapping[str, Any]) -> tuple[CrashReport, ...]:
    return tuple(CrashReport(**crash) for crash in data.get("deaths", ()))


@dataclass(frozen=True, slots=True)
class QuarantineOrder:
    """A function that a host is not to run.

    Attributes:
        reason: the message for its clients.
        declaration: ``FunctionDeclaration.hash`` that is quarantined; another one is not.
    """

    reason: str
    declaration: str


@dataclass(frozen=True, slots=True)
class HostOrders:
    """The controller's answer to a host's report.

    Attributes:
        peers: addresses of the hosts by id.
        load: functions that the host is to load.
        release: functions that it need not keep.
        quarantined: functions that it is to refuse (``refused`` on the wire).
        declare: the declared functions, for a host that has known others for long; else None.
        keep: functions that it is to load, if it has not, and to keep loaded.
        captures: what operators have ordered to be recorded, by function.
    """

    peers: Mapping[str, str] = field(default_factory=dict)
    load: tuple[str, ...] = ()
    release: tuple[str, ...] = ()
    quarantined: Mapping[str, QuarantineOrder] = field(default_factory=dict)
    declare: tuple[FunctionDeclaration, ...] | None = None
    keep: tuple[str, ...] = ()
    captures: Mapping[str, Order] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HostOrders:
        """From the wire form."""
        declare = data.get("declare")
        return cls(
            data["peers"],
            tuple(data["load"]),
            tuple(data["release"]),
            {name: QuarantineOrder(**of) for name, of in data["refused"].items()},
            None if declare is None else tuple(map(FunctionDeclaration.from_dict, declare)),
            tuple(data.get("keep", ())),
            _captures_from(data),
        )

    def to_dict(self) -> Report:
        """The wire form."""
        orders: Report = {
            "peers": self.peers,
            "load": list(self.load),
            "release": list(self.release),
            "keep": list(self.keep),
            "refused": {name: asdict(of) for name, of in self.quarantined.items()},
        }
        if self.declare is not None:
            orders["declare"] = [declaration.to_dict() for declaration in self.declare]
        return {**orders, **_captures_to(self.captures)}


@dataclass(frozen=True, slots=True)
class ReplicaOrders:
    """The controller's answer to a replica's report.

    Attributes:
        quarantine: the message for clients of a quarantined function; empty while it may run
            (``refused`` on the wire).
        captures: as of ``HostOrders``.
    """

    quarantine: str = ""
    captures: Mapping[str, Order] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ReplicaOrders:
        """From the wire form."""
        return cls(data["refused"], _captures_from(data))

    def to_dict(self) -> Report:
        """The wire form."""
        return {"refused": self.quarantine, **_captures_to(self.captures)}


def _captures_from(data: Mapping[str, Any]) -> dict[str, Order]:
    return {name: Order(*of) for name, of in data.get("captures", {}).items()}


def _captures_to(captures: Mapping[str, Order]) -> Report:
    """The key of orders in the wire form, where there are any."""
    return {"captures": {name: list(of) for name, of in captures.items()}} if captures else {}
