"""A small simulated cluster, for many orders of events in little time: Serve's controller, hosts,
the placement controller and `wakeful up`.

The placement controller is the real one, with all that it decides by (``placement``,
``transitions``, ``tier_policy``), and so is the order of an update (``update_order``); Ray, the
store and the processes are simulated (``simulated_ray``). Serve's controller dies and forgets the
orders on their way to it; an order may fail and land later all the same, or be refused, a deletion
is never confirmed, a question may be answered late, a host may not take the declarations. Time is
simulated too, and everything random comes from one seed.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Coroutine, Generator, Iterable, Set
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from deployments.control.declarations import FunctionDeclaration, hash_declarations
from deployments.control.orders import HostOrders
from deployments.control.process_reports import HostReport, ReplicaReport
from deployments.ingress.haproxy.rules import FUNCTION
from deployments.placement.controller import PlacementController, RayCalls
from deployments.placement.placement import Placement
from deployments.placement.transitions import UNROUTED_S
from deployments.ray_support.serve_status import AppState
from deployments.ray_support.state_dir import DeployedApp
from deployments.rollout.plan import Plan, PlannedApp
from deployments.rollout.plan_comparison import deployed_without, mark_changing, without_functions
from deployments.rollout.update_order import UpdateOrder
from deployments.scaling.tier_policy import Thresholds
from runtime.declaration.function_spec import FunctionSpec, hash_of
from runtime.library.function_report import FunctionReport
from runtime.system.crash.reports import CrashReport
from tests.deployments.placement.placing import CRASH
from tests.deployments.placement.simulated_ray import (
    SimulatedServe,
    SimulatedStore,
    SimulatedThreads,
)

TICK_S = 0.5

Declared = dict[str, Any]
"""A declaration as plain data."""

THRESHOLDS = Thresholds.at(0.2)

FOREIGN = {"theirs": (FUNCTION,), "other": ("Ingress", "Model")}
"""Applications of other users: one is named like a function of ours and made like one."""


class RayError(Exception):
    """Ray did not take an order."""


def declared(name: str, version: int, *, fixed: bool = False) -> Declared:
    """A function as `up` declares it."""
    declaration = FunctionDeclaration(
        name, f"/v2/models/{name}", _args(str(version), int(fixed)), fixed, f"{name}-{version}"
    )
    return declaration.to_dict()


@cache
def _args(code: str, min_replicas: int) -> Declared:
    spec = FunctionSpec.from_args(
        "f",
        "/f",
        {
            "onnx": "m.onnx",
            "deployed": {"made_of": {"code": code}},
            "autoscaling": {
                "min_replicas": min_replicas,
                "downscale_delay_s": 5.0,
                "downscale_to_zero_delay_s": 8.0,
            },
        },
    )
    return spec.to_args()


@cache
def _declaration(text: str) -> FunctionDeclaration:
    """From the wire form, parsed once for all the stories."""
    return FunctionDeclaration.from_dict(json.loads(text))


def declarations(functions: Iterable[Declared]) -> list[FunctionDeclaration]:
    """From the wire form."""
    return [_declaration(json.dumps(one)) for one in functions]


def planned(functions: Iterable[Declared]) -> Plan:
    """What `up` makes of a file with these functions."""
    functions = list(functions)
    functions_of = {
        "catalogue": functions,
        "host": [one for one in functions if not one["is_always_own"]],
    }
    applications = [
        PlannedApp(name, "", f"deployments:{name}", functions=tuple(declarations(known)))
        for name, known in functions_of.items()
    ]
    applications += [
        PlannedApp(
            one["name"], one["url"], "deployments:function", one["args"], ray_keys={"data": one}
        )
        for one in functions
        if one["is_always_own"]
    ]
    deployed = [DeployedApp(one.name, "", one.name, one.fingerprint) for one in applications[:2]]
    deployed += [
        DeployedApp(
            one["name"], one["url"], "function", hash_of(one), {}, hosted=not one["is_always_own"]
        )
        for one in functions
    ]
    return Plan("", 0, {}, tuple(applications), tuple(deployed))


@dataclass
class App:
    """An application that Ray has.

    Attributes:
        data: the function, as it was deployed last.
        running: the version of the replica that runs; empty while none does.
        ready_at: when the replica of ``data`` runs; never, if the version is broken.
        gone_at: when it has drained, if it is being deleted.
    """

    data: Declared
    routed: bool
    ready_at: float
    running: Declared = field(default_factory=dict)
    gone_at: float | None = None
    parts: tuple[str, ...] = (FUNCTION,)

    def state(self, now: float) -> str:
        """As ``deployments.ray_support.serve_status`` says it."""
        if self.gone_at is not None:
            return "draining"
        return "ready" if now >= self.ready_at else "waking"


class World:
    """All of it; ``tick`` is to be called each half second. Lives on an event loop in simulated
    time, and while its ``serve`` is installed.

    Args:
        seed: of everything random.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.threads = SimulatedThreads()
        self.serve = SimulatedServe(
            lambda: self.threads, self._take_order, self._take_deletion, self._answer_status
        )
        self.apps: dict[str, App] = {
            name: App({"name": name}, True, 0.0, parts=parts) for name, parts in FOREIGN.items()
        }
        self.catalogue: list[Declared] = []
        self.held: list[str] = []
        self.hosted: list[Declared] = []
        self.stored = "{}"
        self.knows: tuple[list[Declared], str] = ([], "")
        self.controller_back = 0.0
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.controller: PlacementController | None = None
        self.declaring: asyncio.Task[None] | None = None
        self.placement_back: float | None = None
        self.host_back: float | None = None
        self.host: list[Declared] | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.faults: list[str] = []
        self.loaded: dict[str, float] = {}
        self.busy: dict[tuple[str, str], float] = {}
        self.load: dict[str, float] = {}
        self.used_at: dict[str, float] = {}
        self.crashes: list[CrashReport] = []
        self.died = 0
        self.up: tuple[DeployedApp, ...] = ()
        self.applications: list[PlannedApp] = []
        self.told_at = 0.0
        self.is_calm = False

    # Time.

    @property
    def now(self) -> float:
        """Seconds."""
        return time.monotonic()

    def tick(self) -> None:
        """Half a second has passed."""
        due = [do for at, do in self.later if at <= self.now]
        self.later = [one for one in self.later if one[0] > self.now]
        for do in due:
            do()
        for name, app in list(self.apps.items()):
            if app.gone_at is not None and self.now >= app.gone_at:
                del self.apps[name]
            elif self.now >= app.ready_at:
                app.running = app.data
        self._restart()
        self._serve()
        if self.now - self.told_at >= 1.0:
            self.told_at = self.now
            self._report()

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        """Something happens then."""
        self.later.append((self.now + seconds, do))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Something a process does; an error of it is a fault of the story."""

        def on_done(task: asyncio.Task[None]) -> None:
            self.tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                self.faults.append(f"{task.get_name()}: {error!r}")

        task = asyncio.get_running_loop().create_task(work, name=work.__name__)
        self.tasks.add(task)
        task.add_done_callback(on_done)
        return task

    @property
    def placement(self) -> Placement | None:
        """Of the placement controller that lives, if one does."""
        return None if self.controller is None else self.controller.placement

    def _restart(self) -> None:
        if (
            self.controller is None
            and self.placement_back is not None
            and self.now >= self.placement_back
            and self.is_controlled
        ):
            self.threads = SimulatedThreads()
            self.controller = PlacementController(
                "catalogue",
                THRESHOLDS,
                0,
                SimulatedStore(self.threads, self._put),
                json.loads(self.stored),
                RayCalls(self.threads),
            )
            self.placement_back = None
            # it asks Ray before it is told the functions
            self.after(self.random.uniform(0, 1), self._declare)
        if (
            self.host is None
            and self.host_back is not None
            and self.now >= self.host_back
            and self.is_controlled
        ):
            self.host, self.host_back = list(self.hosted), None

    # Faults.

    @property
    def is_controlled(self) -> bool:
        """Whether Ray's controller lives."""
        return self.now >= self.controller_back

    def kill_controller(self) -> None:
        """It is back in a few seconds, with what it had written down."""
        self.controller_back = self.now + self.random.uniform(1, 8)

    def kill_owner(self) -> None:
        """With all that it knew; its orders may be on their way."""
        self.threads.shutdown()  # no answer reaches it
        if self.controller is not None:
            self.spawn(self.controller.close())
        self.controller, self.declaring = None, None
        self.placement_back = self.now + self.random.uniform(1, 6)

    def kill_host(self, culprit: str = "") -> None:
        """Because of a function, or of none; the next report carries the crash."""
        if self.host is None:
            return
        self.die(culprit, {one["name"]: one for one in self.host})
        self.host, self.host_back = None, self.now + self.random.uniform(1, 5)
        self.loaded.clear()

    def die(self, culprit: str, known: dict[str, Declared]) -> None:
        """A process is crashed by a function, and leaves a crash report."""
        self.died += 1
        if culprit in known:
            versions = {culprit: [known[culprit]["version"]]}
            self.crashes.append(
                replace(
                    CRASH,
                    key=str(self.died),
                    pid=self.died,
                    at=self.now,
                    culprits=(culprit,),
                    words="Aborted",
                    versions=versions,
                )
            )

    # Ray.

    def order(
        self,
        do: Callable[[], Any],
        on_done: Callable[[str], None],
        *,
        confirmed: bool = True,
        late_s: float = 40.0,
    ) -> None:
        """An order is on its way to the controller; ``on_done`` gets the error, empty for none.

        Args:
            confirmed: the controller answers it.
            late_s: it may land so much later than it failed.
        """
        takes_s, chance = (
            self.random.uniform(0.05, 0.8),
            1.0 if self.is_calm else self.random.random(),
        )
        error = "TimeoutError: the controller is not there"
        if chance < 0.04:  # no answer comes for long
            late_s = self.random.uniform(5, 90)
            self.after(late_s, lambda: self._land(do, on_done))
        elif chance < 0.1:  # it fails, and lands all the same
            self.after(takes_s, lambda: on_done(error if confirmed else ""))
            self.after(self.random.uniform(0, late_s) if late_s else takes_s - 0.01, do)
        elif not self.is_controlled or chance < 0.13:  # it is lost
            self.after(takes_s, lambda: on_done(error if confirmed else ""))
        else:
            self.after(
                takes_s,
                lambda: (
                    self._land(do, on_done)
                    if self.is_controlled
                    else on_done(error if confirmed else "")
                ),
            )

    @staticmethod
    def _land(do: Callable[[], Any], on_done: Callable[[str], None]) -> None:
        do()
        on_done("")

    def deploy(self, data: Declared, routed: bool) -> None:
        """The controller takes it."""
        app = self.apps.get(data["name"])
        start_s = self.random.uniform(1, 4)
        if app is None:
            app = self.apps[data["name"]] = App(data, routed, self.now + start_s)
        elif app.data["version"] != data["version"] or app.gone_at is not None:
            app.ready_at = self.now + start_s
        app.data, app.routed, app.gone_at, app.parts = data, routed, None, (FUNCTION,)

    def _take_order(
        self,
        name: str,
        version: str,
        prefix: str | None,
        is_promoted: bool,
        on_done: Callable[[Any], None],
    ) -> None:
        """The placement controller orders a deployment."""
        assert prefix in (None, f"/v2/models/{name}"), prefix
        if prefix is None and not self.is_calm and self.random.random() < 0.1:
            # of a function that is promoted or goes back; an update that is refused is taken back
            on_done(ValueError("Serve does not take it"))
            return
        if not self.is_calm and self.random.random() < 0.05:
            self.after(
                0.0, self.kill_owner
            )  # the worst moment: it has ordered, and is told nothing
        data = {"name": name, "version": version}
        self.order(
            lambda: self.deploy(data, prefix is not None),
            lambda error: on_done(TimeoutError(error) if error else None),
        )

    def _take_deletion(self, name: str, on_done: Callable[[Any], None]) -> None:
        self.order(lambda: self.delete(name), on_done, confirmed=False)

    def _answer_status(self, on_done: Callable[[Any], None]) -> None:
        """At once, mostly; one answer of a hundred comes late, and then it is old."""
        asked_at = self.now
        if not self.is_controlled:
            self.after(0.5, lambda: on_done(TimeoutError("the controller is not there")))
            return
        apps = self.status()
        if self.is_calm or self.random.random() < 0.99:
            on_done((asked_at, apps))
        else:
            self.after(self.random.uniform(0.5, 15), lambda: on_done((asked_at, apps)))

    def _put(self, data: dict[str, Any], on_done: Callable[[Any], None]) -> None:
        """What the placement controller must know after a restart is written, in a moment."""

        def write() -> None:
            self.stored = json.dumps(data)
            on_done(None)

        if self.is_calm or self.random.random() < 0.8:
            write()
        else:
            self.after(TICK_S, write)

    def delete(self, name: str) -> None:
        """The same."""
        app = self.apps.get(name)
        if app is not None and app.gone_at is None:
            app.gone_at = self.now + self.random.uniform(0.1, 6)
            app.routed = False

    def status(self) -> dict[str, AppState]:
        """Ray's status."""
        return {
            name: AppState(name, app.state(self.now), 1, deployments=app.parts)
            for name, app in self.apps.items()
        }

    # Processes of ours.

    def _serve(self) -> None:
        """Calls are answered where they arrive: behind the function's own prefix, or in the
        host.
        """
        for name, cores in self.load.items():
            if not cores:
                continue
            self.used_at[name] = self.now
            app = self.apps.get(name)
            if app is not None and app.routed and app.running:
                place = f"own-{name}"
            elif self.host is not None and any(one["name"] == name for one in self.host):
                place = "host"
                self.loaded[name] = self.now
            else:
                continue
            self.busy[place, name] = self.busy.get((place, name), 0.0) + cores * TICK_S
        for name, at in list(self.loaded.items()):
            if self.now - at > 8:
                del self.loaded[name]

    def _function_report(self, place: str, name: str, version: str = "") -> FunctionReport:
        busy_s = self.busy.get((place, name), 0.0)
        return FunctionReport(
            version=version,
            busy_s=busy_s,
            calls=int(100 * busy_s),
            in_flight=int(self.load.get(name, 0.0) > 0),
            idle_s=self.now - self.used_at.get(name, 0.0),
        )

    def _report(self) -> None:
        if self.controller is None:
            return
        if self.host is not None:
            self.spawn(self._report_host(self.controller, self.host))
        for name, app in self.apps.items():
            if app.running and name not in FOREIGN:
                function = self._function_report(f"own-{name}", name, app.running["version"])
                report = ReplicaReport(f"r-{name}", name, function)
                self.spawn(self._report_replica(self.controller, report))

    @staticmethod
    async def _report_replica(controller: PlacementController, report: ReplicaReport) -> None:
        await controller.receive_report(report)

    async def _report_host(self, controller: PlacementController, host: list[Declared]) -> None:
        """Crashes are reported until the placement controller has them for certain."""
        crashes = tuple(self.crashes)
        loaded = {name: self._function_report("host", name) for name in self.loaded}
        if self.knows[0] is not host:
            self.knows = host, hash_declarations(declarations(host))
        report = HostReport("h", crashes=crashes, declared=self.knows[1], functions=loaded)
        orders = await controller.receive_report(report)
        self.crashes = [one for one in self.crashes if one not in crashes]
        if self.host is not host:  # it has ended meanwhile, or was declared anew
            return
        assert isinstance(orders, HostOrders)
        known = {one["name"] for one in host}
        for name in orders.load:
            if name in known and name not in orders.quarantined:
                self.loaded[name] = self.now
        for name in (*orders.release, *orders.quarantined):
            self.loaded.pop(name, None)
        if orders.declare is not None:
            self.host = [declaration.to_dict() for declaration in orders.declare]

    def _declare(self) -> None:
        """The placement controller, if it lives, is told the functions."""
        if self.controller is not None:
            declared = declarations(self.catalogue)
            self.declaring = self.spawn(self.controller.declare(declared, self.held))

    # `wakeful`: each step waits for the one before.

    def begin(self, plan: Plan) -> None:
        """The first `up`."""
        for one in plan.applications:
            self._take(one)
        self.up, self.applications = plan.deployed, list(plan.applications)
        self.placement_back = self.host_back = self.now

    def _take(self, application: PlannedApp) -> None:
        """The controller takes an application of `up`."""
        functions = [function.to_dict() for function in application.functions]
        if application.name == "catalogue":
            self.catalogue, self.held = functions, application.args.get("held", [])
            self._declare()
        elif application.name == "host":
            self.hosted = functions
            if self.host is not None and (self.is_calm or self.random.random() > 0.05):
                self.host = functions
                self.loaded = {
                    name: at
                    for name, at in self.loaded.items()
                    if name in {one["name"] for one in functions}
                }
        else:
            self.deploy(application.ray_keys["data"], application.is_routed)

    def _driver(
        self, applications: Iterable[PlannedApp], gone: Iterable[str] = ()
    ) -> Generator[None, None, dict[str, AppState]]:
        applications = list(applications)
        for name in gone:
            yield from self._asked(lambda name=name: self.delete(name), confirmed=False)  # type: ignore[misc]
            until = self.now + 60
            while name in self.apps and self.now < until:
                yield
            if name in self.apps:
                raise RayError(name)
        if applications:
            yield from self._asked(lambda: [self._take(one) for one in applications])
        until = self.now + 20
        own = [one.name for one in applications if not one.lists_functions]
        while self.now < until and any(self._state(name) != "ready" for name in own):
            yield
        while any(one.name == "catalogue" for one in applications) and self.now < until:
            if self.declaring is not None and self.declaring.done():
                break
            yield
        return {
            name: AppState(name, state, message="late")
            for name in own
            if (state := self._state(name))
        }

    def _state(self, name: str) -> str:
        state = self.apps[name].state(self.now) if name in self.apps else "failed"
        return state if state == "ready" else "failed"

    def _asked(
        self, do: Callable[[], Any], *, confirmed: bool = True
    ) -> Generator[None, None, None]:
        answers: list[str] = []
        # its process ends with it, and the next command comes later
        self.order(do, answers.append, confirmed=confirmed, late_s=0.0)
        while not answers:
            yield
        if answers[0]:
            raise RayError(answers[0])

    def _pause(self, seconds: float) -> Generator[None, None, None]:
        until = self.now + seconds
        while self.now < until:
            yield

    def update(self, plan: Plan) -> Generator[None, None, None]:
        """`wakeful up`, as ``Rollout.update`` goes about it."""
        while not self.is_controlled:
            yield
        alive = frozenset(
            name for name, one in self.status().items() if one.state not in ("failed", "draining")
        ) | {"catalogue", "host"}
        previous = {one.name: one for one in self.applications}
        order = UpdateOrder(plan, {entry.name: entry for entry in self.up}, alive, previous)
        self.up = order.deployed_meanwhile
        refused: dict[str, str] = {}
        newly_refused: Set[str] = frozenset()
        for decide in order.steps:
            step = decide(refused, newly_refused)
            if step.calls_end_first:
                yield from self._pause(UNROUTED_S)
            states = yield from self._driver(step.deploy, step.delete)
            known = refused.keys()
            if failures := step.failures(states):
                refused = order.with_dependents({**refused, **failures})
            newly_refused = refused.keys() - known
        final = order.plan_without(refused)
        self.up, self.applications = (
            final.deployed,
            list(order.last_running(final, self.status())),
        )
        if refused:
            raise RayError(f"not taken: {refused}")

    def down(self, name: str) -> Generator[None, None, None]:
        """`wakeful down NAME`, as ``Cluster.delete`` goes about it."""
        gone = [name]
        kept = [without_functions(one, gone) for one in self.applications if one.name != name]
        left = deployed_without(self.up, kept, gone)
        sharing = [one for one in kept if one.lists_functions]
        self.up = mark_changing(self.up, (name, *(one.name for one in sharing)))
        yield from self._driver(
            [], [one.name for one in self.up if one.name == name and not one.hosted]
        )
        self.applications = kept
        yield from self._driver(sharing)
        self.up = left

    # What came of it.

    def wrong(self, functions: Iterable[Declared]) -> list[str]:
        """What differs between what runs and what is declared; empty when nothing does."""
        wanted = {one["name"]: one for one in functions}
        found: list[str] = []
        if (
            self.placement is None
            or self.host is None
            or self.placement.functions.keys() != wanted.keys()
        ):
            return [
                f"the placement controller knows {list(self.placement.functions) if self.placement else None}, "
                f"the host {self.host}"
            ]
        for name, app in self.apps.items():
            if name in FOREIGN:
                if app != App({"name": name}, True, 0.0, {"name": name}, parts=FOREIGN[name]):
                    found.append(f"{name} is not ours and was touched")
            elif name not in wanted:
                found.append(f"{name} is deployed and nothing declares it")
            elif (
                self.placement.functions[name].tier != "own"
                or not app.routed
                or app.state(self.now) != "ready"
            ):
                found.append(f"{name} is deployed and does not answer: {app}")
            elif app.running.get("version") != wanted[name]["version"]:
                found.append(f"{name} answers with another version: {app}")
        if {one["name"]: one["version"] for one in self.host} != {
            n: one["version"] for n, one in wanted.items() if not one["is_always_own"]
        }:
            found.append(f"the host knows {[one['version'] for one in self.host]}")
        for name, one in wanted.items():
            state = self.placement.functions[name]
            if (
                state.transition != "steady"
                or self.held
                or state.declaration.version != one["version"]
            ):
                found.append(
                    f"{name} is {state.transition}, held {self.held}, "
                    f"{state.declaration.version}, {state.update_error}"
                )
            if one["is_always_own"] and name not in self.apps:
                found.append(f"{name} has lost its deployment")
            if not one["is_always_own"] and state.tier == "own" and name not in self.apps:
                found.append(f"no process answers for {name}")
            if (
                self.load.get(name)
                and not one["is_always_own"]
                and name not in FOREIGN
                and not state.crashes.is_quarantined
                and state.tier != "own"
            ):
                found.append(f"{name} is busy and was not promoted")
        return found

    def quarantined(self) -> dict[str, bool]:
        """Whether each function is quarantined."""
        return (
            {
                state.name: state.crashes.is_quarantined
                for state in self.placement.functions.values()
            }
            if self.placement is not None
            else {}
        )
