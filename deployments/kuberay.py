"""A file as a RayService of KubeRay: one manifest with the same functions, the same hosts and the same environment as ``up`` gives them.

Kubernetes starts the machines and KubeRay starts Ray on them, so what is left to say is which image, which environment and which
applications. The head pod gets no CPUs: it holds what ends with it anyway, Serve's controller and the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from deployments.plan import SERVE_KEYS, Plan
from deployments.rayenv import APART, SERVING, mapping

RAY_VERSION: Final = "2.60.0"

HTTP_PORT: Final = 8000

UP_ONLY: Final = ("version", "owner", "routed")
"""Keys of an application that ``up`` alone can tell Ray."""

PORTS: Final = {"gcs": 6379, "dashboard": 8265, "serve": HTTP_PORT}


@dataclass(frozen=True, slots=True)
class Pods:
    """What Kubernetes is to start.

    Attributes:
        name: of the service.
        image: with Wakeful, the stages' code and the pulled models; the same in every pod, so that answers are.
        root: folder of the file in the image.
        bin: folder of the image's ``wakeful`` command.
        cpus, memory, gpus: of each worker.
        least, most: workers.
        secrets: what stages name as ``${NAME}``: keys of a Secret of the service's name and ``-secrets``.
    """

    name: str
    image: str
    root: str
    bin: str
    cpus: int
    memory: str
    gpus: int
    least: int
    most: int
    secrets: tuple[str, ...] = ()


def manifest(pods: Pods, serve_yaml: str) -> dict[str, Any]:
    """The RayService, as plain data.

    Args:
        serve_yaml: ``serve_config`` as text; KubeRay takes it so.
    """
    limits = {"cpu": pods.cpus, "memory": pods.memory, **({"nvidia.com/gpu": pods.gpus} if pods.gpus else {})}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": pods.name},
        "spec": {
            "serveConfigV2": serve_yaml,
            "rayClusterConfig": {
                "rayVersion": RAY_VERSION,
                "headGroupSpec": {
                    "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
                    "template": _pod("ray-head", pods, {"cpu": 1, "memory": "4Gi"}, PORTS),
                },
                "workerGroupSpecs": [
                    {
                        "groupName": "workers",
                        "replicas": pods.least,
                        "minReplicas": pods.least,
                        "maxReplicas": pods.most,
                        "rayStartParams": {},
                        "template": _pod("ray-worker", pods, limits, {"serve": HTTP_PORT}),
                    }
                ],
            },
        },
    }


LISTENS: Final[Mapping[str, Any]] = MappingProxyType({"host": "0.0.0.0", "port": HTTP_PORT})
"""HTTP of a pod."""


def serve_config(plan: Plan, **http: Any) -> dict[str, Any]:
    """A plan as Ray Serve's own file: what ``serve deploy`` deploys of it is what ``up`` would; ``http`` goes before its options."""
    return {
        "proxy_location": plan.serve["proxy_location"],
        "http_options": {**plan.serve["http_options"], **http},
        **{key: plan.serve[key] for key in SERVE_KEYS if key in plan.serve},
        "applications": [{key: value for key, value in one.items() if key not in UP_ONLY} for one in plan.applications],
    }


def _pod(name: str, pods: Pods, limits: Mapping[str, Any], ports: Mapping[str, int]) -> dict[str, Any]:
    return {
        "spec": {
            "containers": [
                {
                    "name": name,
                    "image": pods.image,
                    "workingDir": pods.root,
                    "env": [*({"name": key, "value": value} for key, value in environment(pods).items()), *_secrets(pods)],
                    "ports": [{"name": key, "containerPort": value} for key, value in ports.items()],
                    "resources": {"limits": dict(limits), "requests": dict(limits)},
                }
            ]
        }
    }


def _secrets(pods: Pods) -> list[dict[str, Any]]:
    return [{"name": name, "valueFrom": {"secretKeyRef": {"name": f"{pods.name}-secrets", "key": name}}} for name in pods.secrets]


def environment(pods: Pods) -> dict[str, str]:
    """Of every pod."""
    return {
        **mapping(SERVING),
        **mapping(APART),
        "RAY_SERVE_HAPROXY_BINARY_PATH": f"{pods.bin}/wakeful-haproxy",
        "WAKEFUL_ROOT": pods.root,
        "WAKEFUL_MODELS": f"{pods.root}/models",
        "PYTHONPATH": pods.root,
    }
