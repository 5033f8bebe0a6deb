"""Random pairs of files, and an update from one to the other as a cluster would see it: which
versions may take calls at each moment, and what these find where they call.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from deployments.control.declarations import FunctionDeclaration
from deployments.ray_support.serve_status import AppState
from deployments.ray_support.state_dir import DeployedApp
from deployments.rollout.plan import Plan, PlannedApp
from deployments.rollout.plan_comparison import keep_host_version
from deployments.rollout.update_order import UpdateOrder, UpdateStep
from runtime.declaration.function_spec import hash_of

CATALOGUE, HOST, FUNCTION = "deployments:catalogue", "deployments:host", "deployments:function"
BELOW = "/v2/models"


@dataclass
class Fn:
    """A function of a made-up file.

    Attributes:
        rank: it calls functions of a higher one only.
        face: what its callers know of it; with another one they are another version, too.
        code: of its modules.
        parts: split stages by name: whether each has a deployment, its version and its face.
    """

    name: str
    rank: int
    prefix: str
    is_own: bool = False
    version: int = 0
    face: int = 0
    code: int = 0
    calls: list[str] = field(default_factory=list)
    parts: dict[str, tuple[bool, int, int]] = field(default_factory=dict)


File = dict[str, Fn]


def make_plan(file: File) -> Plan:
    """What `up` would plan."""
    specs: dict[str, tuple[Fn, str]] = {name: (fn, "") for name, fn in file.items()}
    for fn in file.values():
        for part, (is_own, version, face) in fn.parts.items():
            name = f"{fn.name}.{part}"
            specs[name] = Fn(name, 99, f"{BELOW}/{name}", is_own, version, face, fn.code), fn.name
    args: dict[str, dict[str, Any]] = {}

    def args_of(name: str) -> dict[str, Any]:
        if name not in args:
            fn, _ = specs[name]
            callees = [*fn.calls, *(f"{name}.{part}" for part in fn.parts)]
            calls = {
                callee: {
                    "route_prefix": specs[callee][0].prefix,
                    "also_at": [],
                    "digest": hash_of(args_of(callee)),
                    "takes": {"face": specs[callee][0].face},
                    "gives": {},
                    "at_load": sum(map(ord, f"{name}{callee}")) % 3 == 0,  # a third of them
                }
                for callee in callees
            }
            deployed = {"calls": calls, "declarations": {}, "made_of": {"code": str(fn.code)}}
            args[name] = {"graph": [fn.version, fn.face], "deployed": deployed}
        return args[name]

    listed, applications, deployed = [], [], []
    for name, (fn, parent) in specs.items():
        faces = {callee: of["takes"] for callee, of in args_of(name)["deployed"]["calls"].items()}
        version = hash_of([args_of(name)["graph"], faces, fn.code])
        listed.append(
            FunctionDeclaration(name, fn.prefix, args_of(name), fn.is_own, version, part_of=parent)
        )
        app = PlannedApp(name, fn.prefix, FUNCTION, args_of(name), version, "catalogue")
        if fn.is_own:
            applications.append(app)
        described = DeployedApp(
            name, fn.prefix, "function", app.fingerprint, hosted=not fn.is_own, part_of=parent
        )
        deployed.append(described)
    code = {f"m_{name}": str(fn.code) for name, (fn, _) in specs.items() if not fn.is_own}
    hosted = tuple(one for one in listed if not one.is_always_own)
    heads = [
        PlannedApp("catalogue", "/", CATALOGUE, {}, "1", functions=tuple(listed)),
        PlannedApp("host", BELOW, HOST, {}, hash_of(code), code=code, functions=hosted),
    ]
    described_heads = [
        DeployedApp(app.name, str(app.route_prefix), app.role, app.fingerprint) for app in heads
    ]
    return Plan("", 0, {}, (*heads, *applications), (*described_heads, *deployed))


@dataclass(frozen=True)
class Version:
    """A version of a function that may answer or call, at a prefix.

    Attributes:
        at: where it is reached; empty: nowhere yet.
    """

    name: str
    args: Mapping[str, Any]
    at: str

    @property
    def calls(self) -> Mapping[str, Any]:
        """What it knows of those that it calls."""
        calls: Mapping[str, Any] = self.args["deployed"]["calls"]
        return calls

    @property
    def mark(self) -> tuple[Any, ...]:
        """What makes it another version than others of its name."""
        return (self.name, str(self.args["graph"]), str(self.args["deployed"]["made_of"]))


@dataclass
class Served:
    """What may answer at a moment: of each application the version before a step and the one after
    it, if it is under way.

    Attributes:
        own: versions of each deployment.
        lists: lists of functions that a host may have.
    """

    own: dict[str, list[Version]] = field(default_factory=dict)
    lists: list[dict[str, Version]] = field(default_factory=list)


class Broken(AssertionError):
    """A call would be refused, or answered by what the caller does not know."""


class Cluster:
    """Executes the steps of an update as ``Rollout`` does, and looks at each moment.

    Args:
        fails: of the names that a step tries, those that do not start.
        is_short: whether what starts waits for resources.
        deletes_first: a step deletes before it deploys.
    """

    def __init__(
        self,
        before: File,
        after: File,
        chance: random.Random,
        *,
        failing: float = 0.0,
        is_short: bool = False,
        promoted: frozenset[str] = frozenset(),
        deletes_first: bool = False,
    ) -> None:
        self.before, self.after = make_plan(before), make_plan(after)
        former = {app.name: app for app in self.before.applications}
        self.promoted, self.placed = promoted, set(promoted)
        self.order = UpdateOrder(
            keep_host_version(self.after, former),
            {entry.name: entry for entry in self.before.deployed},
            frozenset(former) | promoted,
            former,
            awake=frozenset(entry.name for entry in self.before.deployed if entry.hosted),
            promoted=promoted,
        )
        self.chance, self.failing, self.is_short = chance, failing, is_short
        self.deletes_first = deletes_first
        self.catalogue = former["catalogue"]
        self.host = former["host"]
        listed = {one.name: one for one in self.catalogue.functions}
        self.own = {
            name: Version(name, app.args, str(app.route_prefix))
            for name, app in former.items()
            if app.role == "function"
        } | {name: _version(listed[name]) for name in promoted}
        self.hosted = {one.name: _version(one) for one in self.host.functions}
        self.lingering: list[Version] = []
        self.broken_new: set[str] = set()
        self.refused: dict[str, str] = {}
        self.both = {entry.name for entry in self.before.deployed if entry.role == "function"} & {
            entry.name for entry in self.after.deployed
        }
        self.where, self.is_going_back = "", False

    def run(self) -> None:
        """Every step.

        Raises:
            Broken: says when, and what.
        """
        self._check(Served({n: [v] for n, v in self.own.items()}, [self.hosted]))
        newly: frozenset[str] = frozenset()
        for number, decide in enumerate(self.order.steps):
            self.where = f"step {number} {getattr(decide, 'func', decide).__name__}"
            step = decide(self.refused, newly)
            known = self.refused.keys()
            if failures := self._execute(step):
                self.refused = self.order.with_dependents({**self.refused, **failures})
            newly = frozenset(self.refused.keys() - known)
        self.where = "the end"
        self._check_end()

    def run_and_go_back(self) -> None:
        """Some of the first steps, an interrupt, and what leaves the former versions.

        Raises:
            Broken: what is called is not found, or something is not as before.
        """
        self.is_short = False  # what was deleted for that is not back at once
        own, hosted, catalogue = dict(self.own), self.hosted, self.catalogue
        newly: frozenset[str] = frozenset()
        steps = self.order.first_steps
        done = self.chance.randrange(len(steps))
        for decide in steps[: done + 1]:
            known = self.refused.keys()
            if failures := self._execute(decide(self.refused, newly)):
                self.refused = self.order.with_dependents({**self.refused, **failures})
            newly = frozenset(self.refused.keys() - known)
        self.before, self.after = self.after, self.before
        self.order = self.order.way_back(done, {*self.own, "catalogue", "host"})
        self.failing, self.is_going_back, newly = 0.0, True, frozenset()
        self.refused = {}
        for number, decide in enumerate(self.order.steps):
            self.where = f"back, step {number} {getattr(decide, 'func', decide).__name__}"
            self._execute(decide({}, ()))
        # the catalogue promotes again what was deployed for good, and is not any more
        kept = {name for name in own if name in self.own or name not in self.promoted}
        if self.own != {name: own[name] for name in kept}:
            raise Broken(f"own {self.own} instead of {own}")
        if (self.hosted, self.catalogue) != (hosted, catalogue):
            raise Broken("the host or the catalogue has another list than before")

    def _execute(self, step: UpdateStep) -> dict[str, str]:
        if step.calls_end_first:
            self.lingering = []
        if self.deletes_first:
            self._delete(step.delete)
        states = self._deploy(step)
        if self.is_short and step.delete_if_short:
            self._delete(name for name in step.delete_if_short[0] if not self._is_called(name))
        if not self.deletes_first:
            self._delete(step.delete)
        failures = step.failures(states)
        for name in step.await_versions:
            if name in self.late_refused:
                failures[name] = "it does not load"
        self.late_refused = set()
        return failures

    def _is_called(self, name: str) -> bool:
        return any(name in one.calls for one in self._callers_now())

    def _callers_now(self) -> Iterator[Version]:
        yield from self.own.values()
        yield from self.hosted.values()
        yield from self.lingering

    def _deploy(self, step: UpdateStep) -> dict[str, AppState]:
        states, now = {}, Served({n: [v] for n, v in self.own.items()}, [self.hosted])
        after_own, after_hosted = dict(self.own), self.hosted
        starting: list[Version] = []
        self.late_refused = set()
        for app in step.deploy:
            fails = app.name in self.may_fail(step) and self.chance.random() < self.failing
            states[app.name] = AppState(app.name, "failed" if fails else "ready", message="no")
            if app.role == "function":
                self.placed -= {app.name}
                at = str(app.route_prefix) if app.is_routed else ""
                new = Version(app.name, app.args, at)
                starting.append(new)
                if not fails:
                    now.own.setdefault(app.name, [replace(new, at="")]).append(new)
                    after_own[app.name] = new
                elif app.name not in self.own:
                    self.broken_new.add(app.name)
            elif app.role == "host":
                if not fails:
                    functions = {one.name: _version(one) for one in app.functions}
                    for name in step.await_versions:
                        is_here = name in functions and name not in self.promoted
                        if is_here and self.chance.random() < self.failing:
                            self.late_refused.add(name)
                            functions[name] = replace(self.hosted[name], at=functions[name].at)
                    now.lists.append(functions)
                    after_hosted = functions
            else:
                self._tell_promoted(app, step, now, after_own)
                self.catalogue = app
        self._check(now, starting)
        going_on = {one.mark for one in (*after_own.values(), *after_hosted.values())}
        replaced = [  # a process that is only told other prefixes goes on
            version
            for version in (*self.own.values(), *self.hosted.values())
            if version.mark not in going_on
        ]
        self.lingering += replaced
        self.own, self.hosted = after_own, after_hosted
        self._check(Served({n: [v] for n, v in self.own.items()}, [self.hosted]))
        return states

    def may_fail(self, step: UpdateStep) -> set[str]:
        """New versions; former ones have run."""
        return {name for name, of in step.fallbacks.items() if of} | {*step.callers}

    def _tell_promoted(
        self, app: PlannedApp, step: UpdateStep, now: Served, after: dict[str, Version]
    ) -> None:
        """The catalogue changes the deployments that it made, or deletes them."""
        listed = {one.name: one for one in app.functions}
        for name in self.placed & self.own.keys():
            if name not in listed:
                after.pop(name, None)
                now.own[name].append(replace(self.own[name], at=""))
            elif not listed[name].is_always_own and name not in app.args.get("held", ()):
                new = _version(listed[name])
                if new != self.own[name]:
                    now.own[name].append(new)
                    after[name] = new
                    if new.mark != self.own[name].mark and name not in step.await_versions:
                        raise Broken(f"{self.where}: the promoted {name} is not awaited")

    def _delete(self, names: Any) -> None:
        for name in names:
            if name in self.own:
                self.own.pop(name)
        self._check(Served({n: [v] for n, v in self.own.items()}, [self.hosted]))

    def _check(self, now: Served, starting: list[Version] = []) -> None:  # noqa: B006
        """Whatever of each application answers, every version finds what it calls; and nothing that
        both files have is ever away.
        """
        callers = [version for versions in now.own.values() for version in versions]
        callers += [version for functions in now.lists for version in functions.values()]
        for caller in {id(one): one for one in (*callers, *starting, *self.lingering)}.values():
            for callee, known in caller.calls.items():
                if callee in self.broken_new:
                    continue  # it had no version before, and so have those that still call it
                places = [known["route_prefix"], *known["also_at"]]
                self._require(now, callee, places, caller)
        during = self.order._prefixes.during()
        for name in self.both:
            places = [*during.known.get(name, (during.at[name],))]
            self._require(now, name, places, None)

    def _require(self, now: Served, name: str, places: list[str], caller: Version | None) -> None:
        own = now.own.get(name, [])
        away = [version for version in own if version.at not in places]
        if not own or away:  # then the host has to answer, whatever list it has
            for functions in now.lists:
                hosted = functions.get(name)
                if hosted is None or hosted.at not in places:
                    raise Broken(
                        f"{self.where}: {name} is not at {places} for {caller}: own "
                        f"{[version.at for version in own]}, hosted {hosted and hosted.at}"
                    )
        if caller is None:
            return
        answering = [version for version in own if version.at]
        if not answering:
            answering = [functions[name] for functions in now.lists if name in functions]
        face = caller.calls[name]["takes"]["face"]
        for version in answering:
            is_former = self._is_new(caller) and version.args["graph"][1] < face
            if is_former and not self._may_differ(caller.name, name):
                raise Broken(f"{self.where}: {caller.name} calls {name} of before")

    def _is_new(self, version: Version) -> bool:
        wanted = {one.name: one for one in self.after.list_receivers[0].functions}
        former = {one.name: one for one in self.before.list_receivers[0].functions}
        name = version.name
        return (
            name in wanted
            and (name not in former or _version(wanted[name]).mark != _version(former[name]).mark)
            and _version(wanted[name]).mark == version.mark
        )

    def _may_differ(self, caller: str, callee: str) -> bool:
        """Versions that are replaced at once: a split stage with its function; and what the host
        can only take at once. What gets into the host answers from its former deployment until the
        end.
        """
        if callee in self.order._prefixes.to_host or self.is_going_back:
            return True
        if callee in self.refused and not self.order._has_former(caller):
            return True  # there is none that could be kept instead
        if {caller, callee} <= self.refused.keys():
            return True  # they go back at once
        return self.order._level(caller) <= self.order._level(callee)

    def _check_end(self) -> None:
        final = self.order.plan_without(self.refused)
        apps = {app.name: app for app in final.applications if app.role == "function"}
        expected = {
            name: Version(name, app.args, str(app.route_prefix)) for name, app in apps.items()
        }
        own = {
            name: version
            for name, version in self.own.items()
            if name not in self.promoted or name in expected
        }
        broken = self.broken_new
        if {n: v for n, v in own.items() if n not in broken} != {
            n: v for n, v in expected.items() if n not in broken
        }:
            raise Broken(f"the end: {own} instead of {expected}")
        listed = {app.name: app for app in final.list_receivers}
        if self.catalogue != listed["catalogue"]:
            raise Broken(f"the end: the catalogue has {self.catalogue}")
        if self.hosted != {one.name: _version(one) for one in listed["host"].functions}:
            raise Broken("the end: the host has another list")
        now = Served({n: [v] for n, v in self.own.items()}, [self.hosted])
        for caller in (*self.own.values(), *self.hosted.values()):
            for callee, known in caller.calls.items():
                if callee in broken:
                    continue
                if known["also_at"]:
                    raise Broken(f"the end: {caller.name} still looks at {known['also_at']}")
                self._require(now, callee, [known["route_prefix"]], None)
                version = self.own.get(callee) or self.hosted[callee]
                is_other = version.args["graph"][1] != known["takes"]["face"]
                if is_other and not (
                    callee in self.refused and not self.order._has_former(caller.name)
                ):
                    raise Broken(f"the end: {caller.name} knows another {callee}")
        for name, entry in {one.name: one for one in self.after.deployed}.items():
            if entry.role != "function" or name in self.refused or name in broken:
                continue
            version = self.own.get(name) or self.hosted.get(name)
            if version is None or version.at != entry.route_prefix:
                raise Broken(f"the end: {name} is not at {entry.route_prefix}")


def _version(function: FunctionDeclaration) -> Version:
    return Version(function.name, function.args, function.url)


def random_file(chance: random.Random) -> File:
    """Some functions that call each other."""
    file: File = {}
    for rank in range(chance.randint(2, 6)):
        name = f"f{rank}"
        file[name] = Fn(name, rank, f"{BELOW}/{name}", is_own=chance.random() < 0.5)
        if chance.random() < 0.3:
            file[name].parts["p"] = (chance.random() < 0.5, 0, 0)
        if file[name].is_own and chance.random() < 0.3:
            file[name].prefix = f"/{name}"
    for fn in file.values():
        fn.calls = [
            other.name for other in file.values() if other.rank > fn.rank and chance.random() < 0.35
        ]
    return file


def changed_file(file: File, chance: random.Random) -> File:
    """The same after one to four changes."""
    for _ in range(1000):
        after = {
            name: replace(fn, calls=[*fn.calls], parts=dict(fn.parts)) for name, fn in file.items()
        }
        for number in range(chance.randint(1, 4)):
            _change(after, chance, number)
        prefixes = [fn.prefix for fn in after.values()]
        is_reached = all(fn.is_own or fn.prefix.startswith(BELOW) for fn in after.values())
        if after and is_reached and len(set(prefixes)) == len(prefixes):
            return after
    raise AssertionError("no pair was found")


CHANGES = (
    "version", "face", "code", "add", "remove", "rename", "own", "prefix", "swap", "call",
    "uncall", "part", "unpart", "part_version",
)  # fmt: skip


def _change(after: File, chance: random.Random, number: int) -> None:
    fn = chance.choice(list(after.values()))
    match chance.choice(CHANGES):
        case "version":
            fn.version += 1
        case "face":
            fn.face += 1
        case "code":
            fn.code += 1
        case "add":
            name = f"n{number}"
            new = Fn(name, chance.randint(0, 7), f"{BELOW}/{name}", chance.random() < 0.5)
            new.calls = [one.name for one in after.values() if one.rank > new.rank][:1]
            after[name] = new
            for one in after.values():
                if one.rank < new.rank and chance.random() < 0.6:
                    one.calls.append(name)
        case "remove" if len(after) > 1:
            del after[fn.name]
            for one in after.values():
                one.calls = [name for name in one.calls if name != fn.name]
        case "rename":
            name = f"r{number}"
            prefix = fn.prefix if chance.random() < 0.3 else f"{BELOW}/{name}"
            new = replace(fn, name=name, prefix=prefix, is_own=fn.is_own ^ (chance.random() < 0.2))
            del after[fn.name]
            after[name] = new
            for one in after.values():
                one.calls = [name if called == fn.name else called for called in one.calls]
        case "own":
            fn.is_own = not fn.is_own
            if not fn.is_own:
                fn.prefix = f"{BELOW}/{fn.name}"
        case "prefix":
            fn.prefix = f"/p{number}" if fn.is_own else f"{BELOW}/p{number}"
        case "swap":
            other = chance.choice(list(after.values()))
            fn.prefix, other.prefix = other.prefix, fn.prefix
        case "call":
            others = [one.name for one in after.values() if one.rank > fn.rank]
            fn.calls += [name for name in others if name not in fn.calls][:1]
            fn.version += 1
        case "uncall" if fn.calls:
            fn.calls.pop()
            fn.version += 1
        case "part":
            fn.parts[chance.choice("pq")] = (chance.random() < 0.5, 0, 0)
            fn.version += 1
        case "unpart" if fn.parts:
            fn.parts.popitem()
            fn.version += 1
        case "part_version" if fn.parts:
            part = chance.choice(list(fn.parts))
            is_own, version, face = fn.parts[part]
            fn.parts[part] = (is_own, version + 1, face + chance.randint(0, 1))
