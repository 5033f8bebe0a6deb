"""docs/metrics.md, made from the metrics that are registered."""

from __future__ import annotations

from deployments.ingress.haproxy_metrics import FAMILIES as HAPROXY_FAMILIES
from deployments.ingress.haproxy_metrics import PROMISE, TLS
from runtime.system.telemetry.counters import ProcessCounters
from runtime.system.telemetry.function_metrics import FAMILIES
from runtime.system.telemetry.metrics import Metrics

HEAD = """\
# Metrics

`GET /metrics` gives these in Prometheus' text form, beside the `process_*` metrics of every Prometheus client. On Ray the catalogue answers
for all processes: each number has a label `process`, the replica that it is from, and `wakeful_declared_functions` counts the functions
of the cluster by `state`. So does each process of `wakeful run --workers N`, of `run-1` to `run-N`; one that was replaced counts from
zero. Looking wakes no function. On Ray a process sends its metrics every five seconds: what it answers in the last ones before it ends is
in none of these, but in [Triton's statistics](routes.md#tritons-clients) and the console.

A dashboard and alerts that read them are in [monitoring](monitoring/README.md); of single calls the [access log](access-log.md) knows more.

A `function` label has the names of the file and no others, and a function has series once it is called or loaded. Where more than 200
functions of a process have some (`WAKEFUL_METRICS_FUNCTIONS`), histograms are of all of them together, with `function="*"`. Calls are
`POST` requests; those that a function makes of another in its own process count in `wakeful_rows_total` and in what comes after it, not
in `wakeful_requests_total`.

Requests that are no calls (unknown paths, a method that no route takes, metadata, the catalogue) are `wakeful_other_requests_total` of
`wakeful run`. On Ray HAProxy counts all that clients were answered, what it answers itself included (404, 503 while nothing answers, 400 for
what is no HTTP), as `haproxy_frontend_*`, the names of its own exporter, with `process="haproxy"`: that of the catalogue's machine, from zero
after each of its reloads; of another machine `process="haproxy-ADDRESS"`. The rate of `haproxy_frontend_http_responses_total{code="5xx"}` beyond that of
`wakeful_requests_total{code=~"5.."}` is what no function answered. On each machine HAProxy's whole exporter listens on the loopback address, at `RAY_SERVE_HAPROXY_METRICS_PORT`.

What a function costs: `rate(wakeful_worker_seconds_total[5m])` is in cores, `rate(wakeful_memory_byte_seconds_total[5m])` in bytes.

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
        (_name(family.name, family.type), family.type, family.documentation)
        for family in Metrics(_NoFunctions(), ProcessCounters()).registry.collect()
        if family.name.startswith("wakeful_")
    ]
    haproxy = [*((name, kind, text) for name, kind, text, _ in HAPROXY_FAMILIES), PROMISE, *TLS]
    return HEAD + "".join(
        f"| `{name}` | {kind} | {text} |\n" for name, kind, text in (*families, *FAMILIES, *haproxy)
    )


def _name(name: str, kind: str) -> str:
    """As Prometheus shows it: a counter's name ends with _total."""
    return f"{name}_total" if kind == "counter" else name
