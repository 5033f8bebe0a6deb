"""docs/monitoring/dashboard.json, for Grafana: what is on it, a line a panel."""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

F: Final = '{function=~"$function"}'
RATE: Final = f"{F}[$__rate_interval]"


class Panel(NamedTuple):
    """A graph: its title, unit (of Grafana), and by legend what it shows."""

    title: str
    unit: str
    shows: dict[str, str]


def _mean(metric: str, by: str = "function") -> str:
    return f"sum by ({by}) (rate({metric}_sum{RATE})) / sum by ({by}) (rate({metric}_count{RATE}))"


def _quantile(share: float, metric: str, labels: str = F, by: str = "function") -> str:
    rate = f"rate({metric}_bucket{labels}[$__rate_interval])"
    return f"histogram_quantile({share}, sum by ({', '.join(filter(None, ('le', by)))}) ({rate}))"


ROWS: Final[dict[str, list[Panel]]] = {
    "Calls": [
        Panel(
            "Calls by function",
            "reqps",
            {"{{function}}": f"sum by (function) (rate(wakeful_requests_total{RATE}))"},
        ),
        Panel(
            "Calls by status",
            "reqps",
            {"{{code}}": f"sum by (code) (rate(wakeful_requests_total{RATE}))"},
        ),
        Panel(
            "Refused and failed, by reason",
            "reqps",
            {
                "{{function}} {{reason}}": "sum by (function, reason) "
                f"(rate(wakeful_errors_total{RATE}))"
            },
        ),
        Panel(
            "Time of a call, median",
            "s",
            {"{{function}}": _quantile(0.5, "wakeful_request_seconds")},
        ),
        Panel(
            "Time of a call, p95", "s", {"{{function}}": _quantile(0.95, "wakeful_request_seconds")}
        ),
        Panel(
            "Time of a call, p99", "s", {"{{function}}": _quantile(0.99, "wakeful_request_seconds")}
        ),
        Panel(
            "Where the time goes, mean",
            "s",
            {
                f"{{{{function}}}} {part}": _mean(f"wakeful_{part}_seconds")
                for part in ("queue", "batch", "model")
            },
        ),
        Panel(
            "Calls in flight",
            "short",
            {"{{function}}": f"sum by (function) (wakeful_requests_in_flight{F})"},
        ),
        Panel(
            "Rows that wait",
            "short",
            {"{{function}}": f"sum by (function) (wakeful_rows_waiting{F})"},
        ),
    ],
    "Batches": [
        Panel(
            "Rows",
            "cps",
            {"{{function}}": f"sum by (function) (rate(wakeful_rows_total{RATE}))"},
        ),
        Panel(
            "Rows of a batch, mean",
            "short",
            {"{{function}} {{stage}}": _mean("wakeful_batch_rows", "function, stage")},
        ),
        Panel(
            "Share of padding",
            "percentunit",
            {
                "{{function}} {{stage}}": "sum by (function, stage) "
                f"(rate(wakeful_padding_values_total{RATE})) / sum by (function, stage) "
                f"(rate(wakeful_batch_values_total{RATE}))"
            },
        ),
    ],
    "Asleep and awake": [
        Panel("Functions by state", "short", {"{{state}}": "sum by (state) (wakeful_functions)"}),
        Panel("Replicas", "short", {"{{function}}": f"sum by (function) (wakeful_replicas{F})"}),
        Panel(
            "Wakes",
            "cps",
            {"{{function}}": f"sum by (function) (rate(wakeful_function_wakes_total{RATE}))"},
        ),
        Panel(
            "Time of a wake",
            "s",
            {
                name: _quantile(share, "wakeful_cold_start_seconds", '{phase="total"}', by="")
                for name, share in (("median", 0.5), ("p95", 0.95))
            },
        ),
        Panel(
            "Wakes and unloads, by outcome and reason",
            "cps",
            {
                "wake: {{outcome}}": "sum by (outcome) (rate(wakeful_wakes_total[$__rate_interval]))",
                "unload: {{reason}}": "sum by (reason) "
                "(rate(wakeful_unloads_total[$__rate_interval])) or vector(0)",
            },
        ),
    ],
    "What it costs": [
        Panel(
            "Cores by function",
            "short",
            {"{{function}}": f"sum by (function) (rate(wakeful_worker_seconds_total{RATE}))"},
        ),
        Panel(
            "Memory by function",
            "bytes",
            {"{{function}}": f"sum by (function) (wakeful_function_memory_bytes{F})"},
        ),
        Panel(
            "Memory by function, over time",
            "bytes",
            {"{{function}}": f"sum by (function) (rate(wakeful_memory_byte_seconds_total{RATE}))"},
        ),
        Panel(
            "Memory of loaded functions and its budget",
            "bytes",
            {
                "used": "sum(wakeful_memory_used_bytes)",
                "budget": "sum(wakeful_memory_budget_bytes)",
            },
        ),
        Panel(
            "Cores of all processes",
            "short",
            {"cores": "sum(rate(process_cpu_seconds_total[$__rate_interval]))"},
        ),
        Panel(
            "Records lost by the access log and by traces",
            "short",
            {
                "{{of}}": "sum by (of) (increase(wakeful_telemetry_lost_total[$__range])) or vector(0)"
            },
        ),
    ],
}
"""By row of the dashboard."""

WIDTH: Final = 8
HEIGHT: Final = 7
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


def page() -> str:
    """The dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        panels.append({"type": "row", "title": title, "gridPos": _place(0, y, 24, 1)})
        y += 1
        for index, panel in enumerate(row):
            place = _place(index % 3 * WIDTH, y + index // 3 * HEIGHT, WIDTH, HEIGHT)
            panels.append(_graph(panel, place))
        y += -(-len(row) // 3) * HEIGHT
    for number, each in enumerate(panels, 1):
        each["id"] = number
    dashboard = {
        "title": "Wakeful",
        "uid": "wakeful",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Prometheus",
                    "type": "datasource",
                    "query": "prometheus",
                },
                {
                    "name": "function",
                    "label": "Function",
                    "type": "query",
                    "datasource": SOURCE,
                    "query": "label_values(wakeful_requests_total, function)",
                    "refresh": 2,
                    "includeAll": True,
                    "allValue": ".*",
                    "multi": True,
                    "current": {"text": "All", "value": "$__all"},
                },
            ]
        },
        "panels": panels,
    }
    return json.dumps(dashboard, indent=1) + "\n"


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _graph(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": expr,
                "legendFormat": legend,
            }
            for index, (legend, expr) in enumerate(panel.shows.items())
        ],
    }
