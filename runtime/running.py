"""What the models of a loaded function really run on: as ONNX Runtime reports it, in the words of ``resources.device``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from runtime.onnx.options import CPU, PROVIDERS
from runtime.onnx.session import Session

DEVICES: Final[Mapping[str, str]] = {providers[0]: device for device, providers in PROVIDERS.items()}
"""Device by the execution provider that makes it."""


@dataclass(frozen=True, slots=True)
class Running:
    """Of all models of a function.

    Attributes:
        device: of the first model that is not on the CPU, else ``cpu``; empty for a function without models.
        nodes: of their graphs; 0 for models that were to run on the CPU alone.
        cpu_nodes: those of them that the CPU has, since the device's provider has no kernel for them.
        fallback: why a model runs on the CPU though a device was declared; empty if none does.
    """

    device: str
    nodes: int = 0
    cpu_nodes: int = 0
    fallback: str = ""

    def words(self) -> dict[str, Any]:
        """As plain data."""
        return {"device": self.device, "nodes": self.nodes, "cpu_nodes": self.cpu_nodes, "fallback": self.fallback}


def running(sessions: Iterable[Session]) -> Running:
    """Of some sessions together."""
    sessions = list(sessions)
    devices = sorted({DEVICES.get(session.provider, session.provider) for session in sessions}, key=lambda name: name == "cpu")
    counts = [session.nodes() for session in sessions]
    return Running(
        device=devices[0] if devices else "",
        nodes=sum(sum(count.values()) for count in counts),
        cpu_nodes=sum(count.get(CPU, 0) for count in counts),
        fallback=next((session.fallback for session in sessions if session.fallback), ""),
    )
