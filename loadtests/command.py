"""The command line of benchmarks and faults: which sections, how long, and where the table goes."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import click
import httpx
import psutil

from loadtests import declare
from loadtests.server import OPEN, ChildFailed, Door, Server, closed, up

PAGE = Path("docs/benchmarks.md")
CORES = len(os.sched_getaffinity(0))
"""That this process may use."""

FAILURES = (ChildFailed, httpx.HTTPError, psutil.Error, OSError, ValueError, KeyError)
"""What ends a section and not the run."""


FEATURES = {
    "amx_int8": "AMX",
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX VNNI",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
}
"""Instruction sets that decide how fast int8 runs, the best first, as Linux spells them."""

PACKAGES = ("ray", "onnxruntime", "onnxruntime-gpu", "uvicorn", "starlette")


Start = Callable[..., AbstractContextManager[Server]]
"""`loadtests.server.up` or `local`."""


@dataclass(frozen=True)
class Bench:
    """What every section needs.

    Attributes:
        quick: one short round of everything.
        port: HTTP port on loopback, free before the run.
        folder: of this run; files to serve, and output of processes.
        start: how Wakeful is started.
        where: the same in words.
        resumes: what an earlier run has left in ``folder`` is taken, where a section keeps it.
        door: what stands before the servers.
    """

    quick: bool
    port: int
    folder: Path
    start: Start = up
    where: str = "on Ray"
    resumes: bool = False
    door: Door = OPEN

    def serve(
        self, name: str, *functions: declare.Application, **settings: str
    ) -> AbstractContextManager[Server]:
        """Starts a Wakeful of a section: its file, its log and its variables."""
        file = declare.write(self.folder / f"{name}.yaml", functions, self.door.http)
        return self.start(file, self.port, self.log(name), settings, door=self.door)

    def log(self, name: str) -> Path:
        """Where the output of a section's processes goes."""
        return self.folder / f"{name}.log"

    def pick(self, full: int, quick: int) -> int:
        """How much of something is done."""
        return quick if self.quick else full

    def rounds(self, what: str, count: int = 3) -> Iterator[int]:
        """Counts from 0, and says so; a quick run has one round of three."""
        for index in range(self.pick(count, max(1, count // 3))):
            say(f"{what}: round {index + 1}")
            yield index


class Line(Protocol):
    """A line of a table; its ``str`` has the cells."""

    @property
    def verdict(self) -> str:
        """``void`` when it proves nothing, ``missed`` when a bound does not hold."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The line of a section that ended with an error."""

    name: str
    error: str
    verdict: str = "void"

    def __str__(self) -> str:
        return f"| {self.name} | **void**: {cell(self.error)} |"


Section = Callable[[Bench], Iterable[Line]]


@dataclass(frozen=True)
class Table:
    """What a command measures, and the table it makes of it.

    Attributes:
        command: how it is called.
        head: of the table.
        problem: why chosen sections cannot be measured here; empty when they can.
        text: the command's help.
        marker: the name in the markers of the table in docs/benchmarks.md, which a whole and valid
            run replaces; empty for a table that is written only where ``--out`` says.
        on_whole: called with the lines of a whole and valid run.
        can_be_closed: there is ``--closed``: all goes by a ``Door``.
    """

    command: str
    head: str
    sections: Mapping[str, Section]
    problem: Callable[[frozenset[str]], str]
    text: str
    marker: str = ""
    on_whole: Callable[[Sequence[Line]], None] = lambda lines: None
    can_be_closed: bool = False

    def measure(self, bench: Bench, name: str) -> Iterator[Line]:
        """A section's lines; if it fails, those it found before and one that says why."""
        say(f"section {name}")
        try:
            for line in self.sections[name](bench):
                say(str(line))
                yield line
        except* FAILURES as failures:
            errors = (f"{type(error).__name__}: {error}" for error in failures.exceptions)
            failed = Failed(name, "; ".join(errors))
            say(str(failed))
            yield failed

    def write(self, page: Path, text: str) -> None:
        """Writes the table between its markers, whole or not at all; or as a new file.

        Raises:
            ValueError: the page has no such markers.
        """
        if self.marker and page.exists():
            text = between_markers(page, self.marker, text)
        put(page, text)

    def as_command(self) -> click.Command:
        """Return what click runs: options, then the measurement."""
        default = f"  [default: {PAGE}, after a whole and valid run]" if self.marker else ""

        @click.command(help=self.text, context_settings={"help_option_names": ["-h", "--help"]})
        @click.option(
            "--only",
            "names",
            default="",
            metavar="NAMES",
            callback=self._chosen,
            help=f"Some of {', '.join(self.sections)}, separated by commas.",
        )
        @click.option("--quick", is_flag=True, help="One short round: shows that it works.")
        @click.option(
            "--port", default=8000, show_default=True, help="HTTP port on loopback; must be free."
        )
        @click.option("--out", type=Path, help=f"Page to write the table into.{default}")
        @click.option("--keep", type=Path, help="Folder for files and logs of the run, kept.")
        @click.option("--strict", is_flag=True, help="Exit 1 also when a target is missed.")
        @click.option(
            "--resume",
            is_flag=True,
            help="Go on with a run that was ended: what it left in --keep is taken.",
        )
        def main(
            names: frozenset[str], quick: bool, port: int, out: Path | None, keep: Path | None,
            strict: bool, resume: bool, is_closed: bool = False,
        ) -> None:  # fmt: skip
            if resume and keep is None:
                raise click.UsageError("--resume needs the folder of the run before: --keep.")
            if problem := self.problem(names):
                raise click.ClickException(problem)
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
            with TemporaryDirectory(prefix="loadtests-") as temporary:
                folder = (keep or Path(temporary)).resolve()
                folder.mkdir(parents=True, exist_ok=True)
                door = closed(folder) if is_closed else OPEN
                bench = Bench(quick, port, folder, resumes=resume, door=door)
                chosen = [name for name in self.sections if name in names]
                lines = [line for name in chosen for line in self.measure(bench, name)]
            body = "\n".join([heading(self.command), "", self.head, *map(str, lines), ""])
            click.echo(body)
            verdicts = {line.verdict for line in lines}
            is_whole = not quick and len(chosen) == len(self.sections) and "void" not in verdicts
            if page := out or (PAGE if self.marker and is_whole else None):
                self.write(page, body)
                say(f"written: {page}")
            if is_whole:
                self.on_whole(lines)
            sys.exit("void" in verdicts or (strict and "missed" in verdicts))

        if self.can_be_closed:
            words = "Calls come by TLS, and need a key."
            main.params.append(click.Option(["--closed", "is_closed"], is_flag=True, help=words))
        return main

    def _chosen(self, _context: object, _parameter: object, value: str) -> frozenset[str]:
        wanted = frozenset(filter(None, (name.strip() for name in value.split(","))))
        if unknown := ", ".join(sorted(wanted - self.sections.keys())):
            known = ", ".join(self.sections)
            raise click.BadParameter(f"unknown: {unknown}. There are {known}.")
        return wanted or frozenset(self.sections)


def between_markers(page: Path, marker: str, text: str) -> str:
    """A page with this text between the markers of a table.

    Raises:
        ValueError: it has no such markers.
    """
    between = rf"(<!-- {marker}: written by [^\n]*\n).*(\n<!-- {marker}: end -->)"
    parts = re.split(between, page.read_text(), flags=re.DOTALL)
    if len(parts) == 1:
        raise ValueError(f"{page} has no markers of {marker}.")
    before, begin, end, after = parts
    return f"{before}{begin}\n{text}{end}{after}"


def put(page: Path, text: str) -> None:
    """Writes a page, whole or not at all."""
    draft = page.with_suffix(".new")
    draft.write_text(text)
    draft.replace(page)


def absent(files: Iterable[Path]) -> str:
    """Which files are missing, and how to get them; empty when all are there."""
    missing = ", ".join(sorted(str(file) for file in files if not file.exists()))
    return missing and f"missing: {missing}. Run `wakeful models pull` in the project's folder."


def cell(text: str, longest: int = 300) -> str:
    """Text that cannot end its cell."""
    return " ".join(text.replace("|", "/").split())[:longest]


def heading(command: str) -> str:
    """What is needed to repeat a run."""
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    return f"`{' '.join([command, *sys.argv[1:]])}`, {date}. {machine()}."


def machine() -> str:
    """The machine in one line, since numbers without it mean little: cores, memory, processor
    features, versions.
    """
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    feature = next((name for flag, name in FEATURES.items() if flag in flags), "")
    parts = [
        f"{CORES} cores",
        f"{psutil.virtual_memory().total / 1e9:.0f} GB",
        " with ".join(filter(None, [platform.machine(), feature])),
        platform.system(),
        f"Python {platform.python_version()}",
    ]
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            parts.append(f"{package} {metadata.version(package)}")
    with contextlib.suppress(FileNotFoundError):  # wrk prints its version above its usage
        usage = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False)
        versions = re.findall(r"wrk (?:debian/)?([\d.]+)", usage.stdout)
        parts += [f"wrk {version}" for version in versions[:1]]
    return ", ".join(parts)


def say(what: str) -> None:
    """Progress, on standard error: standard output is the table."""
    click.echo(what, err=True)
