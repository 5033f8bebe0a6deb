"""Orders to Ray of several threads: applications are built and deployed one after another."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from ray import serve

from deployments.control.declarations import FunctionDeclaration
from deployments.placement.controller import deploy_application
from deployments.placement.order_ledger import RayOrder

THREADS, ORDERS = 8, 48


def test_no_application_is_lost_to_another_that_is_deployed_at_the_same_time(monkeypatch):
    """As where one `up` changes several promoted functions. Ray pickles while an application is
    built; only its controller is not asked.
    """
    deployed = []

    def run_many(targets, **options):
        deployed.extend(target.name for target in targets)

    monkeypatch.setattr(serve, "run_many", run_many)
    graph = [{"stage": "s", "python": "stages_of_a_test:say"}]

    def order(name: str) -> None:
        declaration = FunctionDeclaration(name, f"/{name}", {"graph": graph}, False, "1")
        deploy_application(RayOrder("deploy", name, routed=True), declaration, "catalogue")

    names = [f"f{number}" for number in range(ORDERS)]
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(order, names))
    assert sorted(deployed) == sorted(names)
