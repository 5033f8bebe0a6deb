"""The price of one DeploymentHandle: an extra deployment on the running cluster that passes each request on to a function's replica.

    python -m loadtests.bench.handle ADDRESS APPLICATION ROUTE_PREFIX

deploys it on the Ray at ADDRESS, says ``ready``, and takes it away again at the next line of stdin or its end. It is a process of its
own because Ray reads its settings when it is imported.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from deployments.home import Home
from deployments.rayenv import mapping
from deployments.starting import variables
from loadtests.bench.children import Child, ChildFailed, module
from loadtests.bench.serving import Server

APPLICATION = "bench-handle"


@contextlib.contextmanager
def hop(server: Server, application: str, route_prefix: str, log: Path) -> Iterator[str]:
    """Deploys the extra hop to an application of ``server``; yields its path.

    Raises:
        ChildFailed: it did not come up.
    """
    home = Home()
    cluster = home.load()
    if cluster is None:
        raise ChildFailed(f"{home.path} knows of no cluster.")
    environ = {**server.environ, **mapping(variables(cluster, home))}
    command = module("loadtests.bench.handle", cluster.address, application, route_prefix)
    with Child(command, log, piped=True, environ=environ) as child:
        while child.receive() != "ready":
            pass  # Ray's own words
        yield route_prefix
        child.send("done")
        child.wait(60.0)


def main() -> None:
    """Deploys, waits for a line, deletes."""
    import ray  # not at the top: the benchmark itself stays out of Ray
    from ray import serve
    from starlette.requests import Request
    from starlette.responses import JSONResponse

    address, application, route_prefix = sys.argv[1:]

    class Hop:
        """Parses, passes on, answers: what an ingress in front of a function would do."""

        def __init__(self, name: str) -> None:
            self._function = serve.get_app_handle(name)

        async def __call__(self, request: Request) -> JSONResponse:
            rows = [await request.json()]
            return JSONResponse((await self._function.call.remote(rows))[0])

    options = serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 0}, logging_config={"enable_access_log": False})
    ray.init(address=address, log_to_driver=False)
    serve.run(options(Hop).bind(application), name=APPLICATION, route_prefix=route_prefix)
    print("ready", flush=True)
    sys.stdin.readline()
    serve.delete(APPLICATION, _blocking=False)
    ray.shutdown()


if __name__ == "__main__":
    main()
