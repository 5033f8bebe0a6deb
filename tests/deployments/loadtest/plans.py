"""Plans of short loads on servers that tests write."""

from __future__ import annotations

from typing import Any

from deployments.loadtest.arrivals import parse_shape
from deployments.loadtest.calls.load_call import AnswerForm, LoadCall
from deployments.loadtest.generator.plan import LoadPlan

FORM = AnswerForm({}, {}, {})
"""Any answer is right."""


def plan_of(
    port: int,
    *,
    rps: float = 100.0,
    seconds: float = 0.5,
    path: str = "/v2/models/f",
    form: AnswerForm = FORM,
    wire: Any = "json",
    sequence_calls: int = 0,
    **more: Any,
) -> LoadPlan:
    """Calls of one function at a steady rate."""
    headers = {"content-type": "application/json"}
    call = LoadCall("f", path, b'{"x": 1}', headers, wire=wire, sequence_calls=sequence_calls)
    shape = parse_shape("steady", {}, {"f": rps}, seconds)
    return LoadPlan(f"http://127.0.0.1:{port}", {"f": (call,)}, {"f": form}, shape, **more)
