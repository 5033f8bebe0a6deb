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
import fcntl
import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from deployments.control.process_reports import HaproxyReport
from deployments.ingress.admin_socket import read_frontends, read_kept
from deployments.ingress.haproxy.lacks import CLOSED, PROMISES
from deployments.ingress.tls.copies import TlsState, read_state
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
    (
        "haproxy_frontend_denied_connections_total",
        "counter",
        "Connections that were closed since their address had as many as it may.",
        "dcon",
    ),
    ("haproxy_frontend_current_sessions", "gauge", "Connections with a request.", "scur"),
)
PROMISE: Final = (
    "wakeful_haproxy_promise",
    "gauge",
    "1 while HAProxy keeps a `promise` of Wakeful's, 0 where it runs by Ray's configuration "
    "instead: `wakeful status` says why, and what that costs.",
)
WATCH: Final = "haproxy.watch"
"""A file in the state folder that the process has locked which reports HAProxy's numbers."""

TLS: Final = (
    (
        "wakeful_tls_certificate_end_timestamp_seconds",
        "gauge",
        "When the certificate ends that HAProxy serves with, in seconds since 1970.",
    ),
    (
        "wakeful_tls_files_refused",
        "gauge",
        "1 while the files of `http.tls` are not served with, and those before are: `wakeful "
        "status` says why.",
    ),
)
_CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx", "other")


def read_haproxy_metrics() -> str:
    """Return them in Prometheus' text form; empty where this machine has no HAProxy of ours. Blocks
    for as long as HAProxy's socket takes, a second at most.
    """
    home = os.environ.get(MARK, "")
    for path in Path(home).glob("hap/*/s") if home else ():
        if (page := read_metrics(path)) and (kept := read_kept(path)) is not None:
            return page + write_promises(kept)
    return ""


class HaproxyWatch:
    """Reads what this machine's HAProxy tells, in one of the machine's processes: the first that
    asks, for as long as it lives. Blocking.

    Args:
        machine: its address in the cluster.

    Mutable state: ``_lock``, an open file, once this process is the one.
    """

    def __init__(self, machine: str) -> None:
        home = os.environ.get(MARK, "")
        self._file = Path(home, WATCH) if home else None
        self._machine = machine
        self._lock: int | None = None

    def read(self) -> HaproxyReport | None:
        """Return it; None where another process does, or there is no HAProxy of ours."""
        if not self._is_the_one():
            return None
        metrics = read_haproxy_metrics()
        return HaproxyReport(self._machine, metrics) if metrics else None

    def close(self) -> None:
        """Leave it to another process. Idempotent."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _is_the_one(self) -> bool:
        if self._lock is not None:
            return True
        if self._file is None:
            return False
        with suppress(OSError):
            file = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(file)
            else:
                self._lock = file  # open until the process ends
        return self._lock is not None


def read_metrics(path: Path) -> str:
    """Return those of the HAProxy with this socket; empty where it does not answer."""
    table = read_frontends(path)
    return write_metrics(table) + write_tls(read_state(path.parent)) if table else ""


def write_metrics(table: str) -> str:
    """Return the metrics in HAProxy's answer to ``show stat``.

    Args:
        table: comma-separated, a row for each frontend, the first line names the columns.
    """
    rows = csv.DictReader(table.removeprefix("# ").splitlines())
    frontend = next((row for row in rows if row.get("pxname") == FRONTEND), None)
    return "" if frontend is None else "".join(_lines(frontend))


def write_tls(state: TlsState | None) -> str:
    """Return the metrics of TLS; empty: HTTP is in the clear."""
    if state is None:
        return ""
    return "".join(
        f"# HELP {name} {text}\n# TYPE {name} {kind}\n{name} {value}\n"
        for (name, kind, text), value in zip(
            TLS, (state.ends_at, int(bool(state.refused))), strict=True
        )
    )


def write_promises(kept: Collection[str]) -> str:
    """Return the metric of each promise.

    Args:
        kept: those that HAProxy keeps.
    """
    name, kind, text = PROMISE
    samples = (
        f'{name}{{promise="{promise}"}} {int(promise in kept)}\n' for promise in (*PROMISES, CLOSED)
    )
    return "".join([f"# HELP {name} {text}\n# TYPE {name} {kind}\n", *samples])


def read_unkept(page: str) -> list[str]:
    """Return the promises that HAProxy does not keep, of a page with what ``write_promises``
    wrote.
    """
    return _UNKEPT.findall(page)


_UNKEPT: Final = re.compile(rf'^{PROMISE[0]}\{{promise="(\w+)"\}} 0$', re.MULTILINE)


def _lines(frontend: dict[str, str]) -> Iterator[str]:
    labels = f'proxy="{FRONTEND}"'
    for name, kind, text, column in FAMILIES:
        yield f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
        if name == _RESPONSES:
            for code in _CLASSES:
                yield f'{name}{{{labels},code="{code}"}} {frontend.get(f"hrsp_{code}") or 0}\n'
        else:
            yield f"{name}{{{labels}}} {frontend.get(column) or 0}\n"
