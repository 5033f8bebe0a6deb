"""Of Ray Serve: what its controller and its proxies are made of, and what an application is."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any, Final

from deployments.ray_support.assumptions.looking import (
    require_arguments,
    require_names,
    require_written,
)
from deployments.ray_support.haproxy_names import REPLICA_OF, server_name
from deployments.ray_support.processes import CONTROLLER
from deployments.ray_support.serve_status import APPLICATION_STATES, REPLICA_STATES
from runtime.system.assumptions import Assumption, require


def _version() -> None:
    from ray import serve

    deploy: Any = serve.deployment
    application = deploy(_Nothing).bind()
    deployment = application._bound_deployment.options(version="v", _internal=True)
    found = serve.Application(deployment)._bound_deployment.version
    require(found == "v", f"an application of version v has version {found}")


class _Nothing:
    """A class to deploy, which is not deployed."""


VERSION: Final = Assumption(
    "Deployment.options(version=…)",
    "A changed batch size reaches a running replica, since its version is ours. Without it each "
    "update starts every replica anew.",
    "0.3 s against 1.5 s",
    _version,
)


def _server_names() -> None:
    from ray.serve._private.common import DeploymentID, ReplicaID
    from ray.serve._private.haproxy import HAProxyManager

    replica = ReplicaID("x1_y", DeploymentID("Wakeful Function", "an app/2"))
    full = replica.to_full_id_str()
    manager = HAProxyManager.__ray_metadata__.modified_class  # type: ignore[attr-defined]
    rays = manager.get_safe_name(full)
    require(server_name(full) == rays, f"HAProxy's name for {full} is {rays}")
    require(rays.startswith(REPLICA_OF), f"a replica's name in HAProxy is {rays}")


SERVER_NAMES: Final = Assumption(
    "HAProxyManager.get_safe_name",
    "A replica knows its own name in HAProxy's configuration, by which the calls of a sequence "
    "find it. Without it they are told to begin anew.",
    "",
    _server_names,
)


def _handles() -> None:
    from ray.serve._private import proxy_router, router
    from ray.serve._private.metrics_utils import InMemoryMetricsStore
    from ray.serve.handle import DeploymentHandle

    proxies: Any = proxy_router.ProxyRouter
    managers: Any = router.RouterMetricsManager
    require_arguments(proxies.update_routes, "router", "endpoints")
    require_written(proxies, "handles")
    require_arguments(managers.push_autoscaling_metrics_to_controller, "manager")
    require_written(managers, "metrics_store", "num_queued_requests")
    require_names(InMemoryMetricsStore(), "data")  # type: ignore[no-untyped-call]
    require(
        inspect.iscoroutinefunction(DeploymentHandle.shutdown_async),
        "DeploymentHandle.shutdown_async is no coroutine",
    )


HANDLES: Final = Assumption(
    "ProxyRouter.update_routes, RouterMetricsManager",
    "Handles of proxies report what there is to report, and end with their deployment. Without it "
    "sleeping functions and deleted deployments cost the proxy and the controller.",
    "0.4 % of a core for each function at zero; 13 % after 30 deployments that were deleted",
    _handles,
)


def _manager() -> None:
    from ray.serve._private import controller, haproxy

    kind = haproxy.HAProxyManager.__ray_metadata__.modified_class  # type: ignore[attr-defined]
    written = kind.__ray_actor_class__
    require_names(written, "shutdown", "update_draining", "_reload_haproxy")
    require_arguments(written.update_draining, "manager", True, None)
    require_written(written, "_haproxy_start_task", "_haproxy", "_reload_lock", "event_loop")
    require_written(haproxy.HAProxyApi, "_proc", "cfg")
    require_names(haproxy.HAProxyConfig(), "socket_path")
    require(
        inspect.iscoroutinefunction(haproxy.HAProxyApi.start), "HAProxyApi.start is no coroutine"
    )
    require(
        "HAProxyManager if " in inspect.getsource(controller),
        "the controller does not start HAProxyManager by this name",
    )


MANAGER: Final = Assumption(
    "HAProxyManager",
    "HAProxy that dies is started again at once. Without it by Ray's own means.",
    "0.15 s without HTTP against 24 to 27 s",
    _manager,
)


def _proxy_state() -> None:
    from ray.serve._private import constants, proxy_state

    require_arguments(proxy_state.ActorProxyWrapper.is_healthy, "proxy", 1.0)
    require_written(proxy_state.ActorProxyWrapper, "_health_check_future")
    require_arguments(proxy_state.ProxyState.try_update_status, "proxy", "status")
    require_written(
        proxy_state.ProxyState, "_actor_proxy_wrapper", "_consecutive_health_check_failures"
    )
    require_names(constants, "PROXY_HEALTH_CHECK_UNHEALTHY_THRESHOLD")


PROXY_STATE: Final = Assumption(
    "ProxyState, ActorProxyWrapper",
    "A proxy whose process is gone is replaced at the first check that says so. Without it after "
    "three that fail.",
    "1.2 to 1.7 s without it against 24 to 27",
    _proxy_state,
)


def _details() -> None:
    from ray.serve import schema
    from ray.serve._private.client import ServeControllerClient
    from ray.serve._private.common import ReplicaState
    from ray.serve.context import _get_global_client

    require_arguments(_get_global_client, raise_if_no_controller_running=False)
    require_names(ServeControllerClient, "get_serve_details", "http_config")
    wanted: dict[Any, set[str]] = {
        schema.ServeInstanceDetails: {"applications", "proxies"},
        schema.ApplicationDetails: {"status", "message", "deployments", "route_prefix"},
        schema.DeploymentDetails: {"message", "replicas"},
        schema.ReplicaDetails: {"state"},
    }
    for model, names in wanted.items():
        missing = names - model.model_fields.keys()
        require(not missing, f"{model.__name__} has no {', '.join(sorted(missing))}")
    for known, states in (
        (APPLICATION_STATES, set(schema.ApplicationStatus)),
        (REPLICA_STATES, set(ReplicaState)),
    ):
        gone = known - {str(one.value) for one in states}
        require(not gone, f"there is no state {', '.join(sorted(gone))}")


DETAILS: Final = Assumption(
    "ServeControllerClient.get_serve_details",
    "The states of applications, and where Serve listens. Without it no function is known to be "
    "ready.",
    "1.7 ms of processor time for twelve applications; `serve.status()` takes 110 to 140",
    _details,
)


def _controller_name() -> None:
    from ray import serve
    from ray.serve._private.constants import SERVE_CONTROLLER_NAME

    require(SERVE_CONTROLLER_NAME == CONTROLLER, f"the controller is {SERVE_CONTROLLER_NAME}")
    require_arguments(serve.delete, "application", _blocking=False)


CONTROLLER_NAME: Final = Assumption(
    "SERVE_CONTROLLER_ACTOR, serve.delete(_blocking=False)",
    "Commands see whether Serve runs without starting it, and wait for an application's end as "
    "long as its calls may take. Without it `down` gives up after 60 s.",
    "",
    _controller_name,
)


def _replica() -> None:
    from ray.serve._private import replica
    from ray.serve.context import ReplicaContext

    written = inspect.getsource(replica)
    for name in ("record_autoscaling_stats", "__serve_build_asgi_app__", "__del__"):
        require(name in written, f"a replica does not ask for {name}")
    missing = {"replica_id", "servable_object"} - {one.name for one in fields(ReplicaContext)}
    require(not missing, f"ReplicaContext has no {', '.join(sorted(missing))}")
    require_names(ReplicaContext, "app_name")


REPLICA: Final = Assumption(
    "methods that a replica is asked for",
    "A replica builds its ASGI application, counts its own load, and answers what it has before it "
    "ends. Without it calls take Serve's way, nothing scales, or calls are cut.",
    "",
    _replica,
)


def _callbacks() -> None:
    from ray.serve._private import controller, http_util

    for module, name in (
        (controller, "RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH"),
        (http_util, "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"),
    ):
        require(name in inspect.getsource(module), f"{module.__name__} does not call {name}")


CALLBACKS: Final = Assumption(
    "code of ours in Serve's processes",
    "The controller and each process that reads HTTP call a function of ours when they start. "
    "Without it calls take Serve's way, at a third of the rate, and none is sent again.",
    "",
    _callbacks,
)

ANY_ADDRESS: Final = "[::]:0"
"""Where a replica opens its port for calls between deployments: any port of every address."""


def _inner_grpc() -> None:
    from ray.serve._private import replica
    from ray.serve._private.request_router import replica_wrapper

    opened = f'add_port_to_grpc_server(self._server, "{ANY_ADDRESS}")'
    require(opened in inspect.getsource(replica), f"a replica does not call {opened}")
    require_arguments(vars(replica)["add_port_to_grpc_server"], "server", ANY_ADDRESS)
    called = inspect.getsource(replica_wrapper)
    require(
        "{self._replica_info.node_ip}:{self._replica_info.port}" in called,
        "replicas are not called at the address of their node",
    )


INNER_GRPC: Final = Assumption(
    "replica.add_port_to_grpc_server",
    "A replica's port for calls between deployments is at the address of its machine in the "
    "cluster, the loopback one where there is one machine. Without it at every address; it takes "
    "nothing without the cluster's token.",
    "",
    _inner_grpc,
)

SERVE: Final = (
    VERSION,
    SERVER_NAMES,
    HANDLES,
    MANAGER,
    PROXY_STATE,
    DETAILS,
    CONTROLLER_NAME,
    REPLICA,
    CALLBACKS,
    INNER_GRPC,
)
