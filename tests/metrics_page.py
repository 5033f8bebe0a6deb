"""docs/metrics.md, made from the metrics that are registered."""

from __future__ import annotations

from runtime.system.metrics import Metrics

HEAD = """\
# Metrics

`GET /metrics` gives these in Prometheus' text form, beside the `process_*` metrics of every Prometheus client. On Ray the catalogue answers
for all processes: each number has a label `process`, the replica that it is from, and `wakeful_declared_functions` counts the functions
of the cluster by `state`. Looking wakes no function. No label grows with the number of functions: what is known of each function is in
`wakeful status --json`.

| metric | type | meaning |
|---|---|---|
"""


class _NoFunctions:
    """A library without functions."""

    budget_bytes = 0

    def counts(self) -> dict[str, int]:
        return {}

    def used_bytes(self) -> int:
        return 0


def page() -> str:
    """The page, in the order of registration."""
    families = [
        family
        for family in Metrics(_NoFunctions()).registry.collect()
        if family.name.startswith("wakeful_")
    ]
    return HEAD + "".join(
        f"| `{_name(family.name, family.type)}` | {family.type} | {family.documentation} |\n"
        for family in families
    )


def _name(name: str, kind: str) -> str:
    """As Prometheus shows it: a counter's name ends with _total."""
    return f"{name}_total" if kind == "counter" else name
