"""What this code takes for granted of the inside of another program: names that its documentation
does not have, and texts and habits that a release may change.

They lie in few folders, the walls: of uvicorn ``runtime.http.transport``, of Ray
``deployments.ray_support``, of HAProxy ``deployments.ingress``. Each wall has a module
``assumptions`` with a table of them. A contract test looks at each row of each table, on the oldest
and the newest release that is taken (`make contracts` on whatever is newest).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


class BrokenAssumption(Exception):
    """The other program is not as it is taken to be; the text says what was found instead."""


@dataclass(frozen=True, slots=True)
class Assumption:
    """One.

    Attributes:
        name: what it is about, in few words: ``RequestResponseCycle.transport``.
        reason: what is built on it, a sentence; what is lost where it does not hold.
        measured: what that gains, with units; empty where it is no matter of speed.
        check: raises ``BrokenAssumption`` where the installed release is otherwise; any other
            exception says so as well. Without effects, and of milliseconds where a process looks
            at its start.
    """

    name: str
    reason: str
    measured: str
    check: Callable[[], object]

    def fault(self) -> str:
        """Return what is otherwise, in a sentence that begins with its name; empty: it holds."""
        try:
            self.check()
        except BrokenAssumption as error:
            return f"{self.name}: {error}"
        except Exception as error:  # a name that is gone, other arguments
            return f"{self.name}: {type(error).__name__}: {error}"
        return ""


def faults(assumptions: Sequence[Assumption]) -> list[str]:
    """Return what is otherwise than assumed, a sentence each."""
    return [fault for one in assumptions if (fault := one.fault())]


def require(holds: bool, otherwise: str) -> None:
    """Raise ``BrokenAssumption`` with this text unless it holds; for checks, where ``assert`` could
    be switched off.
    """
    if not holds:
        raise BrokenAssumption(otherwise)
