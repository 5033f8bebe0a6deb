"""What the placement controller answers to the report of a process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from deployments.control.declarations import FunctionDeclaration
from runtime.library.capture.captures import Order


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
    """What a host is to do.

    Attributes:
        peers: addresses of the hosts by id.
        load: functions that the host is to load.
        release: functions that it need not keep.
        quarantined: functions that it is to refuse.
        declare: the declared functions, for a host that has known others for long; None for any
            other. Without any the host forgets all of its own.
        keep: functions that it is to load, if it has not, and to keep loaded.
        captures: what operators have ordered to be recorded, by function.
        report_all: its next report is to say what it has counted of all functions: the catalogue
            does not know yet what that was before it began itself.
    """

    peers: Mapping[str, str] = field(default_factory=dict)
    load: tuple[str, ...] = ()
    release: tuple[str, ...] = ()
    quarantined: Mapping[str, QuarantineOrder] = field(default_factory=dict)
    declare: tuple[FunctionDeclaration, ...] | None = None
    keep: tuple[str, ...] = ()
    captures: Mapping[str, Order] = field(default_factory=dict)
    report_all: bool = False


@dataclass(frozen=True, slots=True)
class ReplicaOrders:
    """What a replica is to do.

    Attributes:
        quarantine: the message for clients of a quarantined function; empty while it may run.
        captures: as of ``HostOrders``.
    """

    quarantine: str = ""
    captures: Mapping[str, Order] = field(default_factory=dict)


ProcessOrders = HostOrders | ReplicaOrders
