"""Plans: what ``up`` has to deploy for a file. Decisions only; nothing is started here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from deployments.control.declarations import (
    LIST_KEYS,
    FunctionDeclaration,
    pack_functions,
    unpack_functions,
)
from deployments.ingress.tls.files import TlsFiles
from deployments.preflight import LoadResult
from deployments.ray_support.deadlines import KEEP_ALIVE_S, longest_s
from deployments.ray_support.state_dir import DeployedApp
from deployments.rollout.prepare import DeployableConfig
from deployments.scaling.tier_policy import begins_in_host
from runtime.declaration.editing.whole_form import IMPORT_PATHS, ROLES, Role
from runtime.declaration.function_spec import (
    FunctionSpec,
    hash_of,
    version_hash,
)
from runtime.settings import Settings
from runtime.system.memory import free_bytes
from runtime.types.json_schemas import InterfaceDescription

if TYPE_CHECKING:
    from runtime.graph.description.explained import ExplainedFunction
    from runtime.graph.resolve import ResolvedConfig

SERVE_KEYS: Final = ("grpc_options", "controller_options", "logging_config", "tracing_config")
"""Keys of the file that Ray Serve takes when it starts, besides ``http_options`` and
``proxy_location``.
"""

TLS_KEYS: Final = {"ssl_certfile", "ssl_keyfile", "ssl_ca_certs"}
"""Of ``http_options``: HAProxy ends TLS, and Ray's own servers are behind it."""


@dataclass(frozen=True, slots=True)
class PlannedApp:
    """An application as it is to be deployed, or was.

    Attributes:
        name, route_prefix, import_path, args: Ray's keys; without a prefix no HTTP reaches it, and
            ``functions`` are among the arguments of the form that Ray takes.
        version: what a running replica cannot change: of a function its version hash, of the host a
            hash of the code that it imports (``keep_host_version``); empty for what is not ours.
        owner: of a function, the application of the placement controller.
        code: of the host, a short hash of each module that its process may have imported, by name.
        functions: what the catalogue and the host are told of functions.
        is_routed: False: it is deployed without its prefix.
        ray_keys: Ray's other keys.
    """

    name: str
    route_prefix: str | None
    import_path: str
    args: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    owner: str = ""
    code: Mapping[str, str] = field(default_factory=dict)
    functions: tuple[FunctionDeclaration, ...] = ()
    is_routed: bool = True
    ray_keys: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PlannedApp:
        """From the form that the driver takes, and that is written down; the defaults are Ray's."""
        rest = dict(data)
        app = cls(
            rest.pop("name", "default"),
            rest.pop("route_prefix", "/"),
            rest.pop("import_path"),
            rest.pop("args", {}),
            rest.pop("version", ""),
            rest.pop("owner", ""),
            rest.pop("code", {}),
            is_routed=rest.pop("routed", True),
            ray_keys=rest,
        )
        if not app.lists_functions:
            return app
        args = {key: value for key, value in app.args.items() if key not in LIST_KEYS}
        return replace(app, args=args, functions=unpack_functions(app.args))

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, without what is empty."""
        more = {
            "args": self.builder_args,
            "version": self.version,
            "owner": self.owner,
            "code": self.code,
        }
        return {
            **self.ray_keys,
            "name": self.name,
            "route_prefix": self.route_prefix,
            "import_path": self.import_path,
            **{key: value for key, value in more.items() if value},
            **({} if self.is_routed else {"routed": False}),
        }

    @property
    def builder_args(self) -> Mapping[str, Any]:
        """What its builder takes: the arguments, with the list of functions."""
        if not self.lists_functions:
            return self.args
        return {**self.args, **pack_functions(self.functions)}

    @property
    def role(self) -> Role:
        """What it is to Wakeful."""
        return ROLES.get(self.import_path, "other")

    @property
    def lists_functions(self) -> bool:
        """Whether it gets the list of functions in its arguments: the catalogue and the host."""
        return self.role in ("catalogue", "host")

    @property
    def fingerprint(self) -> str:
        """A short hash of everything that it is deployed with."""
        return hash_of(self.to_dict())


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a file asks of a cluster.

    Attributes:
        host: address to serve HTTP on.
        port: likewise.
        serve: arguments of ``ray.serve.start``.
        applications: in file order.
        deployed: what runs afterwards, in the same order.
        cors: the pages of other origins that may call (``CorsSpec`` as plain data), if there are.
        auth: as of ``ClusterState``.
        tls: the files of TLS (``TlsFiles.to_json``); empty: HTTP is in the clear.
        per_address: as of ``ClusterState``.
    """

    host: str
    port: int
    serve: dict[str, Any]
    applications: tuple[PlannedApp, ...]
    deployed: tuple[DeployedApp, ...]
    cors: dict[str, Any] | None = None
    auth: dict[str, Any] | None = None
    tls: str = ""
    per_address: int | None = None

    @property
    def list_receivers(self) -> tuple[PlannedApp, ...]:
        """The applications that get the list of functions: the catalogue and the host."""
        return tuple(app for app in self.applications if app.lists_functions)

    @property
    def longest_s(self) -> float:
        """The longest deadline of a call."""
        return longest_s(app.to_dict() for app in self.applications)

    @property
    def keep_alive_s(self) -> float:
        """An idle connection of a client is kept so long."""
        return float(self.serve.get("http_options", {}).get("keep_alive_timeout_s", KEEP_ALIVE_S))

    @property
    def prefixes(self) -> frozenset[str]:
        """Every prefix that HTTP has to reach."""
        return frozenset(
            entry.route_prefix for entry in self.deployed if entry.route_prefix and not entry.hosted
        )


def plan(
    config: DeployableConfig,
    settings: Settings,
    load_results: Mapping[str, LoadResult] = MappingProxyType({}),
    *,
    host: str | None = None,
    port: int | None = None,
    is_open: bool = False,
    auth: dict[str, Any] | None = None,
) -> Plan:
    """The plan for a file; flags come before the environment, the environment before the file.

    Args:
        load_results: of the functions that were loaded once, by name.
        is_open: other machines may join the cluster; each gets a HAProxy and a host.
        auth: as of ``ClusterState``.
    """
    file = config.resolved.file
    host = host or settings.host or file.http_host
    port = port or settings.port or file.http_port
    http = {
        key: value
        for key, value in file.http.model_dump(exclude_unset=True, exclude=TLS_KEYS).items()
        if value is not None
    }
    serve = {
        "proxy_location": file.raw.get("proxy_location")
        or ("EveryNode" if is_open else "HeadOnly"),
        "http_options": {**http, "host": host, "port": port},
        **{key: file.raw[key] for key in SERVE_KEYS if file.raw.get(key) is not None},
    }
    builder = _ApplicationBuilder(config, settings, load_results, is_open)
    cors = file.cors.model_dump(mode="json") if file.cors is not None else None
    applications, deployed = tuple(builder.applications()), tuple(builder.deployed())
    files = TlsFiles.of(file.tls, settings.root)
    tls = "" if files is None else files.to_json()
    per_address = file.connections_per_address
    return Plan(host, port, serve, applications, deployed, cors, auth, tls, per_address)


class _ApplicationBuilder:
    """Makes the applications of a plan. A function in the host has none."""

    def __init__(
        self,
        config: DeployableConfig,
        settings: Settings,
        load_results: Mapping[str, LoadResult],
        is_open: bool,
    ) -> None:
        self._file = config.resolved.file
        self._specs = {spec.name: spec for spec in config.specs}
        self._parent_of = config.resolved.parent_of
        self._assemblies = config.resolved.assemblies
        self._hosts = settings.hosts or default_hosts()
        self._is_open = is_open
        self._interfaces = self._describe_interfaces()
        self._explained = self._explain(config.resolved)
        host = self._file.host
        prefix = None if host is None else str(host["route_prefix"])
        hosted = {spec.name for spec in config.specs if begins_in_host(spec, prefix)}
        self._owner = self._file.catalogue.get("name", "default") if self._file.catalogue else ""
        self._listed = [
            self._list_entry(spec, load_results.get(spec.name), spec.name in hosted)
            for spec in config.specs
        ]
        self._hosted = {entry.name: entry.args for entry in self._listed if not entry.is_always_own}
        self._host_code = {
            module: digest
            for function in config.functions
            if function.spec.name in self._hosted
            for module, digest in function.modules.items()
        }
        split_stages = [
            PlannedApp(spec.name, spec.route_prefix, IMPORT_PATHS["function"], spec.to_args())
            for spec in config.specs
            if self._parent_of(spec.name)
        ]
        declared = map(PlannedApp.from_dict, self._file.raw["applications"])
        self._declared = [*declared, *split_stages]

    def applications(self) -> Iterator[PlannedApp]:
        """Those to deploy, in file order, split stages last."""
        return (self._build(app) for app in self._declared if app.name not in self._hosted)

    def deployed(self) -> Iterator[DeployedApp]:
        """What is written down of each application, and of each function in the host."""
        built = {app.name: app for app in self.applications()}
        for app in self._declared:
            if app.name in self._hosted:
                app = replace(app, args=self._hosted[app.name])
            yield self._describe(built.get(app.name, app))

    def _list_entry(
        self, spec: FunctionSpec, result: LoadResult | None, is_in_host: bool
    ) -> FunctionDeclaration:
        """A function as the catalogue and the host have it in their list."""
        return FunctionDeclaration(
            spec.name,
            spec.route_prefix,
            spec.to_args(),
            is_always_own=not is_in_host,
            version=version_hash(spec),
            memory_bytes=result.memory_bytes if result else 0,
            is_probed=result is not None and not result.skipped,
            part_of=self._parent_of(spec.name),
            interface=self._interfaces.get(spec.name),
            explained=self._explained.get(spec.name),
        )

    def _describe_interfaces(self) -> dict[str, InterfaceDescription | None]:
        """What the catalogue knows of the types of functions; no client calls a split stage."""
        shown = {
            name: assembly
            for name, assembly in self._assemblies.items()
            if not self._parent_of(name)
        }
        if not shown:
            return {}
        # imported already where something is assembled; `down` and `status` assemble nothing
        from runtime.graph.description.interface_schemas import describe_interface

        return {name: describe_interface(assembly) for name, assembly in shown.items()}

    def _explain(self, resolved: ResolvedConfig) -> dict[str, ExplainedFunction]:
        """What the console shows of graphs and settings; nothing where there is none."""
        if not (self._assemblies and self._file.has_console):
            return {}
        from runtime.graph.description.explained import explain_function  # as of the interfaces

        specs = {spec.name: spec for spec in resolved.functions}
        found = {name: explain_function(name, resolved, specs) for name in self._assemblies}
        return {name: one for name, one in found.items() if one is not None}

    def _build(self, app: PlannedApp) -> PlannedApp:
        """As declared, with what only ``up`` knows."""
        match app.role:
            case "function":
                spec = self._specs[app.name]
                return replace(
                    app, args=spec.to_args(), version=version_hash(spec), owner=self._owner
                )
            case "catalogue":
                # a new replica has HAProxy reloaded, which then reads what it does about pages and
                # addresses
                cors, per_address = self._file.cors, self._file.connections_per_address
                version = "1" if cors is None else f"1-{hash_of(cors.model_dump(mode='json'))}"
                version += "" if per_address is None else f"-{per_address}"
                args = app.args
                if not self._file.has_console:
                    version, args = f"{version}-no-console", {**args, "console": False}
                return replace(app, args=args, version=version, functions=tuple(self._listed))
            case "host":
                args = {
                    "prefix": app.route_prefix,
                    "owner": self._owner,
                    "hosts": self._hosts,
                    **({"everywhere": True} if self._is_open else {}),
                }
                return replace(
                    app,
                    args=args,
                    version=hash_of(self._host_code),
                    code=self._host_code,
                    functions=tuple(
                        replace(one, interface=None, explained=None)
                        for one in self._listed
                        if not one.is_always_own
                    ),
                )
        return app

    def _describe(self, app: PlannedApp) -> DeployedApp:
        spec = self._specs.get(app.name)
        resources = spec.resources.model_dump(include={"num_cpus", "num_gpus"}) if spec else {}
        return DeployedApp(
            name=app.name,
            route_prefix=app.route_prefix or "",
            role=app.role,
            fingerprint=app.fingerprint,
            resources=resources,
            hosted=app.name in self._hosted,
            part_of=self._parent_of(app.name),
        )


def default_hosts() -> int:
    """Two where there are cores and memory for the second."""
    return 2 if (os.cpu_count() or 1) >= 4 and free_bytes() >= 8e9 else 1
