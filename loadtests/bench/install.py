"""``wakeful bench install``: what an installation weighs, and how quickly its command
starts.

An installation is a user's: the wheel of this clone, by pip, in an empty environment. What it needs
is downloaded before anything is timed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from loadtests.bench.numbers import HEAD, Number
from loadtests.command import Bench, Table, absent, say
from loadtests.server import Child, ChildFailed, poll

ROOT: Final = Path(__file__).parents[2]

SHIPPED: Final = ROOT / "serve_config.yaml"

INSTALL_TIMEOUT_S: Final = 900.0
"""For what downloads."""

FIRST_ANSWER_S: Final = 60.0

MB: Final = 1e6

Command = Sequence[str | Path]


def run(command: Command, cwd: Path, timeout_s: float = INSTALL_TIMEOUT_S) -> float:
    """Runs a command; returns its seconds.

    Raises:
        ChildFailed: it failed, with the end of what it wrote.
    """
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    took = time.perf_counter() - began
    if done.returncode:
        what, wrote = " ".join(map(str, command)), done.stdout + done.stderr
        raise ChildFailed(f"{what} ended with {done.returncode}: {wrote[-500:]}")
    return took


def size_mb(folder: Path) -> float:
    """What a folder takes of a disk: blocks, links once."""
    seen: dict[tuple[int, int], int] = {}
    for parent, _, names in os.walk(folder):
        for name in (".", *names):
            stat = (Path(parent) / name).lstat()
            seen[stat.st_dev, stat.st_ino] = stat.st_blocks * 512
    return sum(seen.values()) / MB


def environment(bench: Bench) -> Iterator[Number]:
    """An installation with ``[cpu]``: its size, and the start of its command."""
    wheels, installed = bench.folder / "wheels", bench.folder / "installed"
    build: Command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", wheels]
    run(build, ROOT)
    (wheel,) = wheels.glob("wakeful-*.whl")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wanted = f"{wheel}[cpu]"
    say("downloading what it needs")
    run([*pip, "download", "--only-binary=:all:", "-d", wheels, wanted], bench.folder)
    took = run([sys.executable, "-m", "venv", installed], bench.folder)
    empty = size_mb(installed)
    python = installed / "bin" / "python"
    offline = ["--no-index", "--find-links", str(wheels)]
    took += run([python, "-m", "pip", "install", "--quiet", *offline, wanted], bench.folder)
    yield Number("environment and `pip install 'wakeful.whl[cpu]'`, downloads apart", (took,), "s")
    yield Number(
        "nothing to the first answer, downloads apart",
        (took + first_answer(bench, installed / "bin" / "wakeful"),),
        "s",
        note="environment, `pip install`, `wakeful new` and `run`, `curl`: no line is written",
        at_most=20,
    )
    yield Number(
        "engine installed with `[cpu]`",
        (size_mb(installed) - empty,),
        "MB",
        note="compiled modules included; pip's own apart",
        at_most=300,
    )
    command = installed / "bin" / "wakeful"
    yield timed(bench, "`wakeful --help`", [command, "--help"], bench.folder, 0.25)


def first_answer(bench: Bench, command: Path) -> float:
    """The seconds from `wakeful new` to the answer of what it wrote, by the line that `run` prints.

    Raises:
        ChildFailed: there is none in time.
    """
    shutil.rmtree(bench.folder / "hello", ignore_errors=True)
    began = time.perf_counter()
    run([command, "new", "hello"], bench.folder)
    log = bench.log("first")
    project = bench.folder / "hello" / SHIPPED.name
    with Child([str(command), "run", str(project), "--port", "0"], log) as child:
        for _ in poll(FIRST_ANSWER_S):
            lines = log.read_text().splitlines()
            if curl := next((line for line in lines if line.startswith("  curl ")), ""):
                answer = subprocess.run(
                    [*shlex.split(curl), "--fail", "--silent"], capture_output=True, check=False
                )
                took = time.perf_counter() - began
                if not answer.returncode and b'"words"' in answer.stdout:
                    return took
                raise child.failure(f"{curl.strip()} was answered with {answer.stdout!r}")
        raise child.failure(f"no curl line after {FIRST_ANSWER_S:g} s")


def clone(bench: Bench) -> Iterator[Number]:
    """The command of the clone, on the shipped file."""
    command = Path(sys.executable).with_name("wakeful")
    yield timed(bench, "`wakeful --help` of the clone", [command, "--help"], ROOT, 0.25)
    check: Command = [command, "check", SHIPPED]
    yield timed(bench, "`wakeful check` of the shipped file", check, ROOT, 0.8)


def timed(bench: Bench, name: str, command: Command, cwd: Path, at_most: float) -> Number:
    """The seconds of a command from its start to its end, once it has run before."""
    run(command, cwd)
    took = tuple(run(command, cwd) for _ in bench.rounds(name, 15))
    return Number(name, took, "s", at_most=at_most)


def problem(names: frozenset[str]) -> str:
    """Why the chosen sections cannot be measured here; empty when they can."""
    return absent([ROOT / "models" / "minilm" / "model.int8.onnx"]) if "clone" in names else ""


TABLE = Table(
    "wakeful bench install",
    HEAD,
    {"environment": environment, "clone": clone},
    problem,
    """Measure what an installation weighs, and how quickly its command starts.

    Builds the wheel and installs it into an empty environment, as a user does. Needs the package
    index, or pip's cache. Prints a table, and writes it into docs/benchmarks.md when all of it was
    measured. Exits 0 when every number is valid.
    """,
    "bench install",
)

if __name__ == "__main__":
    TABLE.as_command()(prog_name="python -m loadtests.bench.install")
