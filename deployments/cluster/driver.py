"""The process that talks to Ray for a command: ``python -m deployments.cluster.driver``, with the
cluster's environment.

It imports Ray while the command still starts the cluster. Then it reads lines of JSON, ``{"verb":
…, "address": …, …}``, and answers each with lines of JSON on its standard output, ``{"event": …}``;
the last one is ``done``, or ``error``, after which the process ends. The command itself never
imports Ray: it starts in a tenth of the time, and its environment is not the cluster's.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from queue import SimpleQueue
from typing import Any, Final, TextIO

import ray
from ray import serve
from ray.exceptions import RayActorError

from deployments.cluster.head import FACTS
from deployments.ingress.wake_signal import remove_signal
from deployments.observability.status_messages import waiting_reason, waits_for_resources
from deployments.placement.controller import PersistedState
from deployments.placement.views.status_view import LOST
from deployments.ray_support import secret_store
from deployments.ray_support.driver_client import RayError
from deployments.ray_support.ports import is_loopback
from deployments.ray_support.ray_internals import (
    HeadStore,
    application_details,
    begin_delete,
    has_controller,
    what_is_off,
    with_version,
)
from deployments.ray_support.ray_internals import (
    drain_node as drain_this_node,
)
from deployments.ray_support.serve_status import AppState, application_states, deployment_states
from deployments.ray_support.state_dir import WIRE
from deployments.rollout.plan import PlannedApp
from deployments.serving.application import build_application
from runtime.declaration.function_spec import FunctionSpec
from runtime.declaration.sections import LimitsSpec
from runtime.errors import WakefulError

POLL_S: Final = 0.05
"""Between two polls of Ray Serve's status; "ready" is seen half a controller tick late at most."""

NO_RESOURCES_S: Final = 3.0
"""A function that waits for resources this long, while no state changes, is reported as waiting."""

STUCK_S: Final = 120.0
"""So is a function that waits for anything else this long; the largest models load within seconds.
"""

ProgressCallback = Callable[..., None]


def main() -> int:
    """Answers requests until the command has no more; the exit status says whether the last one
    succeeded.
    """
    out = _own_output()

    def send(event: str, **more: Any) -> None:
        out.write(json.dumps({"event": event, **more}) + "\n")
        out.flush()

    requests = SimpleQueue[dict[str, Any]]()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    try:
        while True:
            request = requests.get()
            verb, address = request.pop("verb"), request.pop("address")
            if not ray.is_initialized():
                ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
            send("connected")
            VERBS[verb](send, **request)
            send("done")
    except Exception as error:
        traceback.print_exc()
        send("error", message=_describe(error))
        return 1


def _describe(error: BaseException) -> str:
    if isinstance(error, WakefulError):
        return error.message
    return waiting_reason(f"{type(error).__name__}: {error}")


def deploy(
    send: ProgressCallback,
    *,
    serve_options: dict[str, Any],
    applications: Sequence[dict[str, Any]],
    gone: Sequence[str],
    within_s: float,
) -> None:
    """Starts Serve if it does not run, deploys ``applications`` (``PlannedApp`` as plain data),
    waits until each is ready, asleep or failed, and deletes ``gone`` (``within_s`` at most).
    """
    apps = [PlannedApp.from_dict(data) for data in applications]
    if not has_controller() and (lines := what_is_off()):
        send("untried_ray", lines=lines)
    with _ensure_serving(serve_options, send) as started:
        send("serving", started=started)
        if apps:
            serve.run_many(
                [_run_target(app) for app in apps],
                wait_for_ingress_deployment_creation=False,
                wait_for_applications_running=False,
            )
            send("deployed")
    if apps:
        for state in _state_changes(frozenset(app.name for app in apps)):
            send("state", **asdict(state))
    for name in _delete_applications(gone, within_s):
        send("deleted", name=name)


def status(send: ProgressCallback) -> None:
    """Sends the state of every application in Ray Serve."""
    send("states", states=[asdict(state) for state in application_states(application_details())])


def list_applications(send: ProgressCallback) -> None:
    """Sends the prefix of every application in Ray Serve, by name."""
    details = application_details()
    send("applications", prefixes={name: of["route_prefix"] or "" for name, of in details.items()})


def delete(
    send: ProgressCallback,
    *,
    names: Sequence[str],
    within_s: float,
    last: Sequence[str] = (),
    owner: str = "",
) -> None:
    """Drains and deletes those of ``names`` that exist, all at once: each waits for its own calls,
    ``within_s`` at most. Where Serve does not run, none exists. ``owner``, the catalogue, goes
    first, so that it deploys none of the others meanwhile; the split stages in ``last`` go when no
    function calls them any more.
    """
    if has_controller():
        existing = application_details().keys() & set(names)
        owners = existing & {owner}
        latest = existing & set(last) - owners
        for group in (owners, existing - owners - latest, latest):
            for _ in _delete_applications(group, within_s):
                pass
    if owner:  # so that no later controller of that name uses its state
        PersistedState(owner).drop()


def shutdown(send: ProgressCallback, **request: Any) -> None:
    """Drains and deletes as ``delete``, then stops Serve unless it has other applications."""
    delete(send, **request)
    if has_controller() and not application_details():
        serve.shutdown()  # type: ignore[no-untyped-call]


def publish(
    send: ProgressCallback,
    *,
    host: str,
    port: int,
    longest_s: float,
    hard_stop_s: int,
    cors: dict[str, Any] | None,
    asks_for_keys: bool,
    tls: str,
    per_address: int | None,
) -> None:
    """Stores what ``head facts`` prints, for machines that join later.

    Raises:
        RayError: there are other machines, and HTTP listens where they do not reach it.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    if len(nodes) > 1 and is_loopback(host):
        raise RayError(
            f"the cluster has {len(nodes)} machines, and on {host} each would be heard "
            "by itself alone. Add `--host 0.0.0.0`."
        )
    facts = {
        "host": host,
        "port": port,
        "longest_s": longest_s,
        "hard_stop_s": hard_stop_s,
        "cors": cors,
        "asks_for_keys": asks_for_keys,
        "tls": tls,
        "per_address": per_address,
        "wire": WIRE,
    }
    HeadStore.put(FACTS, json.dumps(facts))


def drain_node(send: ProgressCallback) -> None:
    """Tells Ray that this machine is about to leave; sends the longest deadline of what the cluster
    serves.
    """
    facts = json.loads(HeadStore.get(FACTS) or "{}")
    send(
        "draining",
        is_accepted=drain_this_node(),
        longest_s=facts.get("longest_s", LimitsSpec().request_timeout_s),
    )


def store_secrets(
    send: ProgressCallback, *, values: dict[str, str], still: Sequence[str], owner: str
) -> None:
    """Stores secrets in the cluster (``secret_store.store_secrets``)."""
    secret_store.store_secrets(values, still, owner)


VERBS: Final[dict[str, Callable[..., None]]] = {
    "deploy": deploy,
    "list": list_applications,
    "status": status,
    "delete": delete,
    "store_secrets": store_secrets,
    "publish": publish,
    "drain_node": drain_node,
    "shutdown": shutdown,
}


@contextmanager
def _ensure_serving(options: dict[str, Any], send: ProgressCallback) -> Iterator[bool]:
    """Serve has a controller within the block, and its proxies at the end of it, or it is reported
    that they are late. Yields whether Serve had to be started.

    ``serve.start`` returns when the proxies answer; replicas start meanwhile, since the controller
    takes applications at once. If they do not answer in time, or die, Serve goes on starting them:
    whether HTTP is served is looked at when the functions are ready (``wait_routed``).
    """
    if has_controller():
        yield False
        return
    send("serve")
    with ThreadPoolExecutor(max_workers=1) as pool:
        starting = pool.submit(serve.start, **options)
        while not has_controller():
            if starting.done():
                starting.result()  # raises why there is none
            time.sleep(POLL_S)
        yield True
        if isinstance(late := starting.exception(), (RayActorError, TimeoutError)):
            traceback.print_exception(late)
            send("late", why=_describe(late))
        else:
            starting.result()


def _run_target(app: PlannedApp) -> serve.RunTarget:
    """The application that ``import_path`` names, built with ``args`` as ``serve deploy`` does."""
    module, _, attribute = app.import_path.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if app.role == "function":
        spec = FunctionSpec.from_args(app.name, app.route_prefix or "", app.args)
        built = build_application(spec, owner=app.owner)
    else:
        built = found if isinstance(found, serve.Application) else found(app.builder_args)
    return serve.RunTarget(
        target=with_version(built, app.version) if app.version else built,
        name=app.name,
        route_prefix=app.route_prefix if app.is_routed else None,
        logging_config=app.ray_keys.get("logging_config"),
        external_scaler_enabled=app.ray_keys.get("external_scaler_enabled", False),
    )


def _state_changes(names: frozenset[str]) -> Iterator[AppState]:
    """Each application's state as it changes, until none of them waits for anything. One that is
    gone in the end, as when another command deleted it, has failed.
    """
    last: dict[str, AppState] = {}
    changed_at = time.monotonic()
    while True:
        now = _poll_states(names)
        yield from (state for name, state in now.items() if last.get(name) != state)
        if now != last:
            changed_at = time.monotonic()
        last = now
        if is_settled(names, now, time.monotonic() - changed_at):
            yield from (replace(LOST, name=name) for name in sorted(names - now.keys()))
            return
        time.sleep(POLL_S)


def is_settled(names: Set[str], states: Mapping[str, AppState], unchanged_s: float) -> bool:
    """Whether there is nothing to wait for any more.

    Args:
        names: of the applications that were deployed.
        states: of those that Ray has, by name.
        unchanged_s: for how long they have been as they are.
    """
    waking = [
        state for state in states.values() if state.state not in ("ready", "asleep", "failed")
    ]
    missing = names - states.keys()
    if not waking and not missing:
        return True
    needs_room = not missing and all(waits_for_resources(state.message) for state in waking)
    return unchanged_s > (NO_RESOURCES_S if needs_room else STUCK_S)


def _poll_states(names: frozenset[str]) -> dict[str, AppState]:
    return {
        state.name: state
        for state in deployment_states(application_details())
        if state.name in names
    }


def _read_requests(requests: SimpleQueue[dict[str, Any]]) -> None:
    """Reads a request from each line. The command keeps this process's standard input open while it
    lives; when it closes, this process ends, whatever it does.
    """
    for line in sys.stdin:
        requests.put(json.loads(line))
    os._exit(1)


def _own_output() -> TextIO:
    """Standard output for our lines only; what Ray prints in this process goes to the log."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


DELETE_POLL_S: Final = 0.1


def _delete_applications(names: Collection[str], within_s: float) -> Iterator[str]:
    """Deletes applications at the same time, since each waits for its own calls to end. Yields
    those that have gone, in the order of ``names``. Raises as ``delete_application``.
    """
    with ThreadPoolExecutor(max_workers=max(1, min(len(names), 32))) as pool:
        deleted = pool.map(lambda name: delete_application(name, within_s), names)
        for name, _ in zip(names, deleted, strict=True):
            yield name


def delete_application(name: str, within_s: float) -> None:
    """Deletes an application; returns when its replicas have answered their calls and ended, and
    its wake signal is removed. Blocking. (``serve.delete`` gives up after 60 s, whatever the
    replicas' own deadline is.)

    Args:
        within_s: longest wait (``deadlines.delete_s``).

    Raises:
        TimeoutError: it still exists; Ray goes on with it.
    """
    begin_delete(name)
    until = time.monotonic() + within_s
    while name in application_details():
        if time.monotonic() > until:
            raise TimeoutError(
                f"Ray Serve has not deleted {name!r} within {within_s:.0f} s. `wakeful status` "
                "shows what it waits for."
            )
        time.sleep(DELETE_POLL_S)
    remove_signal(name)


if __name__ == "__main__":
    sys.exit(main())
