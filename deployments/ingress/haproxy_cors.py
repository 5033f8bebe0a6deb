"""What HAProxy does about pages of other origins (CORS): it answers preflights itself, so that they
reach no replica and wake none, and adds the headers to every response, its own errors included.

The same as ``runtime.http.cors`` does in one process; importing that would cost each reload 0.1 s.
Applications that are not ours keep their own ways. The policy is read from what ``up`` wrote down.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from deployments.ingress.config_edit import ConfigEdit

METHODS: Final = "GET, HEAD, POST"
EXPOSED: Final = (
    "accept-ranges, content-disposition, content-range, inference-header-content-length,"
    " retry-after, server-timing, x-request-id"
)
"""Both as in ``runtime.http.cors``."""

_PREFLIGHT: Final = "METH_OPTIONS { req.fhdr(access-control-request-method) -m found }"
_REFUSED: Final = (
    '{"error":"pages of other origins may not call here; `http.cors.origins` of the file names '
    'those that may.","code":"method_not_allowed","where":"","request_id":""}'
)


class DeployedCors(NamedTuple):
    """What of ``up.json`` decides.

    Attributes:
        policy: of the file (``CorsSpec`` as plain data); None: no page may call.
        ours: prefixes of our applications, where one that is not ours has all others; else empty.
        others: prefixes below which an application that is not ours answers.
    """

    policy: Mapping[str, Any] | None
    ours: Sequence[str] = ()
    others: Sequence[str] = ()


def read_deployed(home: Path) -> DeployedCors:
    """Return what ``up`` wrote down on this machine; no policy if it wrote nothing."""
    try:
        up = json.loads((home / "up.json").read_text(encoding="utf-8"))
        apps = [(app["route_prefix"], app["role"]) for app in up["deployed"] if not app["hosted"]]
        others = [prefix for prefix, role in apps if role == "other" and prefix]
        ours = [prefix for prefix, role in apps if role != "other"] if "/" in others else []
        return DeployedCors(up.get("cors"), ours, [one for one in others if one != "/"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return DeployedCors(None)


def cors_edit(deployed: DeployedCors) -> ConfigEdit:
    """Return the edit that does it."""
    return ConfigEdit(
        r"frontend http_frontend\n    bind .*\n",
        "\\g<0>" + cors_rules(deployed),
        "pages of other origins may not call, and their preflights wake functions",
    )


def cors_rules(deployed: DeployedCors) -> str:
    """Return the rules of a frontend that do it."""
    lines = [
        *_below("wakeful_ours", deployed.ours),
        *_below("wakeful_other", deployed.others),
        "http-request set-var(txn.wakeful_cors) bool(1)" + _where_ours(deployed),
        *(_refusal() if deployed.policy is None else _permission(deployed.policy)),
    ]
    return "".join(f"    {line}\n" for line in lines)


def _below(acl: str, prefixes: Sequence[str]) -> list[str]:
    return [
        f"acl {acl} {match}" for one in prefixes for match in (f"path {one}", f"path_beg {one}/")
    ]


def _where_ours(deployed: DeployedCors) -> str:
    if deployed.ours:
        return " if wakeful_ours"
    return " unless wakeful_other" if deployed.others else ""


def _refusal() -> list[str]:
    return [
        f"http-request return status 405 content-type application/json string '{_REFUSED}' "
        f'hdr allow "{METHODS}" if '
        f"{{ var(txn.wakeful_cors) -m bool }} {_PREFLIGHT}"
    ]


def _permission(policy: Mapping[str, Any]) -> list[str]:
    is_open = "*" in policy["origins"]
    ours, allowed = "{ var(txn.wakeful_cors) -m bool }", "{ var(txn.wakeful_origin) -m found }"
    preflight = "{ var(txn.wakeful_preflight) -m bool }"
    origins = [f"acl wakeful_origin req.fhdr(origin) -m str {one}" for one in policy["origins"]]
    rules = [
        *(["acl wakeful_origin always_true"] if is_open else origins),
        "http-request set-var(txn.wakeful_origin) "
        + ("str(*)" if is_open else "req.fhdr(origin)")
        + f" if wakeful_origin {ours}",
        f"http-request set-var(txn.wakeful_preflight) bool(1) if {allowed} {_PREFLIGHT}",
        "http-request set-var(txn.wakeful_asked) req.fhdr(access-control-request-headers) if "
        f"{preflight} {{ req.fhdr(access-control-request-headers) -m found }}",
        f"http-request return status 200 if {ours} {_PREFLIGHT}",
    ]
    headers = [
        ("allow-origin", "%[var(txn.wakeful_origin)]", allowed),
        ("expose-headers", f'"{EXPOSED}"', allowed),
        *([("allow-credentials", "true", allowed)] if policy["credentials"] else []),
        ("allow-methods", f'"{METHODS}"', preflight),
        ("max-age", str(policy["max_age_s"]), preflight),
        ("allow-headers", "%[var(txn.wakeful_asked)]", "{ var(txn.wakeful_asked) -m found }"),
    ]
    rules += [
        f"http-after-response set-header access-control-{name} {value} if {condition}"
        for name, value, condition in headers
    ]
    return rules if is_open else [*rules, f"http-after-response add-header vary origin if {ours}"]
