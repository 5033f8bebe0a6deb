"""What this machine's HAProxy has answered, those answers included that it gives itself, and which
promises it keeps, for the metrics page.

The names are those of HAProxy's own exporter, which Ray configures as well; this reads HAProxy's
socket instead, where no port is needed. HAProxy counts from zero in each process, so after each
reload.

Source: HAProxy 2.8, management guide, section 9.1 (the columns of ``show stat``) and the section on
the Prometheus exporter.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from deployments.ingress.admin_socket import read_frontends
from deployments.ingress.haproxy.lacks import CLOSED, PROMISES, read_off
from deployments.ray_support.environment import MARK
from deployments.ray_support.haproxy_names import FRONTEND

_RESPONSES: Final = "haproxy_frontend_http_responses_total"
FAMILIES: Final = (
    (_RESPONSES, "counter", "Responses by `code`, 1xx to 5xx and other.", ""),
    ("haproxy_frontend_http_requests_total", "counter", "Requests.", "req_tot"),
    (
        "haproxy_frontend_request_errors_total",
        "counter",
        "Requests that are no HTTP, or late.",
        "ereq",
    ),
    ("haproxy_frontend_current_sessions", "gauge", "Connections with a request.", "scur"),
)
PROMISE: Final = (
    "wakeful_haproxy_promise",
    "gauge",
    "1 while HAProxy keeps a `promise` of Wakeful's, 0 where it runs by Ray's configuration "
    "instead: `wakeful status` says why, and what that costs.",
)
_CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx", "other")


def read_haproxy_metrics() -> str:
    """Return them in Prometheus' text form; empty where this machine has no HAProxy of ours. Blocks
    for as long as HAProxy's socket takes, half a second at most.
    """
    home = os.environ.get(MARK, "")
    pages = (read_metrics(path) for path in Path(home).glob("hap/*/s")) if home else ()
    page = next((page for page in pages if page), "")
    return page and page + write_promises(read_off(Path(home)))


def read_metrics(path: Path) -> str:
    """Return those of the HAProxy with this socket; empty where it does not answer."""
    table = read_frontends(path)
    return write_metrics(table) if table else ""


def write_metrics(table: str) -> str:
    """Return the metrics in HAProxy's answer to ``show stat``.

    Args:
        table: comma-separated, a row for each frontend, the first line names the columns.
    """
    rows = csv.DictReader(table.removeprefix("# ").splitlines())
    frontend = next((row for row in rows if row.get("pxname") == FRONTEND), None)
    return "" if frontend is None else "".join(_lines(frontend))


def write_promises(off: Collection[str]) -> str:
    """Return the metric of each promise.

    Args:
        off: those that HAProxy does not keep.
    """
    name, kind, text = PROMISE
    samples = (
        f'{name}{{promise="{promise}"}} {int(promise not in off)}\n'
        for promise in (*PROMISES, CLOSED)
    )
    return "".join([f"# HELP {name} {text}\n# TYPE {name} {kind}\n", *samples])


def _lines(frontend: dict[str, str]) -> Iterator[str]:
    labels = f'proxy="{FRONTEND}"'
    for name, kind, text, column in FAMILIES:
        yield f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
        if name == _RESPONSES:
            for code in _CLASSES:
                yield f'{name}{{{labels},code="{code}"}} {frontend.get(f"hrsp_{code}") or 0}\n'
        else:
            yield f"{name}{{{labels}}} {frontend.get(column) or 0}\n"
