"""The process that talks to Ray for a command: ``python -m deployments.driver``, with the cluster's environment.

It imports Ray while the caller still starts the cluster, then reads lines of JSON, ``{"verb": …, "address": …, …}``, and answers each
with lines of JSON on its standard output, ``{"event": …}``; the last is ``done``, or ``error``, with which it ends. The command itself
never imports Ray: it starts in a tenth of the time, and its environment is not the cluster's.
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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, Final, TextIO

import ray
from ray import serve
from ray.util import list_named_actors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from deployments import vault
from deployments.application import application as application_of
from deployments.bell import take_down
from deployments.ports import is_loopback
from deployments.rayprivate import HeadStore, retire, versioned
from deployments.reasons import reason, waits_for_resources
from deployments.sameness import KEY, Digests, Unlike, advice, differences, digests
from deployments.states import settling, states
from runtime.declaration.applications import OURS
from runtime.errors import WakefulError
from runtime.settings import Settings
from runtime.spec import FunctionSpec

POLL_S: Final = 0.05
"""Between two looks at Ray Serve's status: half a controller tick of error in "ready" is not seen."""

SETTLED_S: Final = 3.0
"""A function that waits for resources this long while nothing else moves has to be told of."""

STUCK_S: Final = 120.0
"""So does one that does not get ready, nor fails, nor moves; the largest models load within seconds."""

COMPARE_S: Final = 60.0
"""Longest wait for the digests of all machines; a process has to start on each."""

CONTROLLER: Final = "SERVE_CONTROLLER_ACTOR"
"""The name under which Ray's list of actors shows Serve's controller."""

Tell = Callable[..., None]


def main() -> int:
    """Serve requests until the caller has no more; the exit status says whether the last one was done."""
    out = _own_output()

    def tell(event: str, **more: Any) -> None:
        out.write(json.dumps({"event": event, **more}) + "\n")
        out.flush()

    requests = SimpleQueue[dict[str, Any]]()
    threading.Thread(target=_hear, args=(requests,), daemon=True).start()
    try:
        while True:
            request = requests.get()
            if not ray.is_initialized():
                ray.init(address=request["address"], log_to_driver=False, logging_level=logging.WARNING)
            tell("connected")
            VERBS[request["verb"]](request, tell)
            tell("done")
    except Exception as error:
        traceback.print_exc()
        tell("error", message=error.message if isinstance(error, WakefulError) else reason(f"{type(error).__name__}: {error}"))
        return 1


def deploy(request: dict[str, Any], tell: Tell) -> None:
    """Start Serve if it is not there, delete ``gone``, deploy ``applications`` (without their prefix, where they are not ``routed``),
    and wait until each is ready, asleep or failed."""
    names = [application["name"] for application in request["applications"]]
    with _serving(request["serve"], tell) as started:
        tell("serving", started=started)
        _apply(request, tell)
    if names:
        for state in _changes(frozenset(names)):
            tell("state", **state)


def _apply(request: dict[str, Any], tell: Tell) -> None:
    for name in request["gone"]:
        _delete(name)
        tell("deleted", name=name)
    if request["applications"]:
        targets = [_target(application) for application in request["applications"]]
        serve.run_many(targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
        tell("deployed")


def status(request: dict[str, Any], tell: Tell) -> None:
    """What Ray Serve knows of every application."""
    tell("states", states=states(serve.status()))


def delete(request: dict[str, Any], tell: Tell) -> None:
    """Drain and delete those of ``names`` that are there, all at once: each waits for its own requests. Where Serve is gone, so are
    they. ``owner`` goes first: it must not deploy any of the others meanwhile; the parts in ``last`` go when nobody calls them any more."""
    if not _has_controller():
        return
    there = serve.status().applications.keys() & set(request["names"])
    owner = there & {request.get("owner", "")}
    last = there & set(request.get("last", ())) - owner
    for names in (owner, there - owner - last, last):
        with ThreadPoolExecutor(max_workers=max(1, min(len(names), 32))) as pool:
            list(pool.map(_delete, names))


def _delete(name: str) -> None:
    serve.delete(name)
    take_down(name)


def shutdown(request: dict[str, Any], tell: Tell) -> None:
    """Drain and delete ``names``, then stop Serve."""
    delete(request, tell)
    if _has_controller():
        serve.shutdown()  # type: ignore[no-untyped-call]


def compare(request: dict[str, Any], tell: Tell) -> None:
    """See that every machine has what the functions name, as this one has it, and keep that for machines that join later.

    Raises:
        Unlike: with the machines and the files.
    """
    names = request["names"]
    here = digests(names, Settings.read())
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    if len(nodes) > 1 and is_loopback(request["host"]):
        raise Unlike(
            f"the cluster has {len(nodes)} machines, and on {request['host']} each would be heard by itself alone. Add `--host 0.0.0.0`."
        )
    found = {node["NodeManagerAddress"]: differences(here, there) for node, there in zip(nodes, _there(nodes, names), strict=True)}
    if HeadStore.is_there():
        HeadStore.put(KEY, json.dumps({"digests": here, "host": request["host"], "port": request["port"]}))
    if unlike := [advice(address, said) for address, said in found.items() if said]:
        raise Unlike(" ".join(unlike))


def _there(nodes: list[dict[str, Any]], names: list[str]) -> list[Digests]:
    """What each machine has: a task on it looks."""
    if len(nodes) < 2:
        return [digests(names, Settings.read()) for _ in nodes]
    look: Any = ray.remote(num_cpus=0)(lambda: digests(names, Settings.read()))
    asked = [look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote() for node in nodes]
    found: list[Digests] = ray.get(asked, timeout=COMPARE_S)
    return found


def vacate(request: dict[str, Any], tell: Tell) -> None:
    """Ray is told that this machine is about to leave."""
    tell("vacated", told=retire())


def keep(request: dict[str, Any], tell: Tell) -> None:
    """Secrets for the cluster, see ``vault.keep``."""
    vault.keep(request["values"], request["still"], request["owner"])


VERBS: Final[dict[str, Callable[[dict[str, Any], Tell], None]]] = {
    "deploy": deploy,
    "status": status,
    "delete": delete,
    "keep": keep,
    "compare": compare,
    "vacate": vacate,
    "shutdown": shutdown,
}


@contextmanager
def _serving(options: dict[str, Any], tell: Tell) -> Iterator[bool]:
    """Serve has a controller within; at the end its proxies are there as well. Yields whether it had to be started.

    ``serve.start`` returns when the proxies answer; replicas start meanwhile, since the controller takes applications at once.
    """
    if _has_controller():
        yield False
        return
    tell("serve")
    with ThreadPoolExecutor(max_workers=1) as pool:
        starting = pool.submit(serve.start, **options)
        while not _has_controller() and not starting.done():
            time.sleep(POLL_S)
        yield True
        starting.result()


def _has_controller() -> bool:
    return any(actor["name"] == CONTROLLER for actor in list_named_actors(all_namespaces=True))


def _target(application: dict[str, Any]) -> serve.RunTarget:
    """What ``import_path`` names, built with ``args``, as Ray builds it for ``serve deploy``."""
    module, _, attribute = application["import_path"].partition(":")
    found = getattr(importlib.import_module(module), attribute)
    args = application.get("args", {})
    if OURS.get(application["import_path"]) == "function":
        spec = FunctionSpec.from_args(application["name"], application["route_prefix"], args)
        built = application_of(spec, owner=application.get("owner", ""))
    else:
        built = found if isinstance(found, serve.Application) else found(args)
    return serve.RunTarget(
        target=versioned(built, application["version"]) if "version" in application else built,
        name=application["name"],
        route_prefix=application.get("route_prefix", "/") if application.get("routed", True) else None,
        logging_config=application.get("logging_config"),
        external_scaler_enabled=application.get("external_scaler_enabled", False),
    )


def _changes(names: frozenset[str]) -> Iterator[dict[str, Any]]:
    """Each application's state as it changes, until none of them is on its way."""
    last: dict[str, dict[str, Any]] = {}
    moved_at = time.monotonic()
    while True:
        now = _look(names)
        for name, state in now.items():
            if last.get(name) != state:
                moved_at = time.monotonic()
                yield state
        last = now
        waking = [state for state in now.values() if state["state"] not in ("ready", "asleep", "failed")]
        if len(now) == len(names) and not waking:
            return
        lack_room = all(waits_for_resources(state["message"]) for state in waking)
        if waking and time.monotonic() - moved_at > (SETTLED_S if lack_room else STUCK_S):
            return
        time.sleep(POLL_S)


def _look(names: frozenset[str]) -> dict[str, dict[str, Any]]:
    return {state["name"]: state for state in settling(serve.status()) if state["name"] in names}


def _hear(requests: SimpleQueue[dict[str, Any]]) -> None:
    """A line each; the caller holds our standard input open as long as he lives, and whatever we do ends with him."""
    for line in sys.stdin:
        requests.put(json.loads(line))
    os._exit(1)


def _own_output() -> TextIO:
    """Standard output for our lines alone: what anyone else prints in this process goes to the log."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


if __name__ == "__main__":
    sys.exit(main())
