"""What ``wakeful loadtest --find-capacity`` finds on a real server, and how exactly a recorded
traffic comes again.

    python -m loadtests.loadtest.found            # 70 minutes, a machine at rest
    python -m loadtests.loadtest.found --quick    # shows that it works
    python -m loadtests.loadtest.found --keep DIR --resume     # goes on with one that was ended

Both by ``wakeful run``. The capacity is that of the shipped `embed` with a text of a page and one
worker, so that the generator has the other of two cores; what is replayed calls a function that
computes nothing, so that the replay is late and not a server that has no time to look.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from deployments.loadtest.calls.captures import read_capture
from deployments.loadtest.generator.server_samples import ServerWatch
from loadtests import declare
from loadtests.bench.numbers import HEAD, Number
from loadtests.bench.texts import write_texts
from loadtests.bench.throughput import MODEL, problem
from loadtests.command import Bench, Table, put, say
from loadtests.loadtest.planned import row_s
from loadtests.server import ChildFailed, Server, local

EMBED: Final = "embed"
TRIVIAL: Final = "trivial"

ONE: Final = {"min_replicas": 1, "max_replicas": 1}

TOKENS: Final = 120

PROMISED_MS: Final = 40
"""Within which 95 of 100 calls are answered: four times what a row takes. At 100 ms, where a call
may wait for eight others, chance moves what searches of ten minutes find twice as far.
"""

SEARCHES: Final = 5

WITHIN: Final = 0.05

VERDICTS: Final = (0, 1, 2)
"""Exit statuses of a load test that was run."""

FIRST_RPS: Final = 50
"""Of a search: half of what one core computes, so that few steps are far from what is found."""

SEARCH_S: Final = 540
"""Of load in one search at most: what is found in made-up queues of this kind differs by 1 % then
(standard deviation). All of it takes 70 minutes.
"""

LOAD_S: Final = 1200.0
"""Longest of one command, after which the section fails; a search pauses, and measures what the
generator can send.
"""

REPLAYED_RPS: Final = 100

REPLAY_WITHIN_MS: Final = 2.0

WRITTEN_S: Final = 8.0
"""Until a capture is on the disk: calls are held back for order, and time is left for the disk."""


def capacity(bench: Bench) -> Iterator[Number]:
    """Five searches, and runs of ten minutes a little below and a little above what they found."""
    alone = replace(bench, start=local)
    with alone.serve(EMBED, _embed()) as server:
        load = partial(_load_embed, bench, server)
        found = list[dict[str, Any]]()
        for index in bench.rounds("search", SEARCHES):
            options = ["--find-capacity", "--rps", str(FIRST_RPS), "--seed", str(index)]
            options += ["--for", str(bench.pick(SEARCH_S, 60))]
            found.append(load_once(bench, f"search-{index}", options, load))
            say(f"{found[-1]['words']} {len(found[-1]['steps'])} steps")
        rates = [one["rate"] for one in found]
        middle = float(np.median(rates))
        void = "" if middle else "no rate holds"
        yield Number("capacity found", rates, "req/s", void=void)
        spread = (max(rates) - min(rates)) / middle if middle else math.nan
        yield Number("the highest of the found less the lowest, by the median", [spread],
                     void=void, at_most=WITHIN)  # fmt: skip
        converged = sum(one["is_converged"] for one in found)
        yield Number("searches that converged in their time", [converged], note=f"of {len(found)}")
        seconds = [sum(step["seconds"] for step in one["steps"]) for one in found]
        yield Number("a search sends calls for", seconds, "s")
        # how much of their difference is the machine's, whose speed goes up and down
        yield Number(
            "worker's time of a row meanwhile", [1000 * one["row_s"] for one in found], "ms"
        )
        if void:
            return
        for share, expected in ((1 - WITHIN, "PASS"), (1 + WITHIN, "FAIL")):
            wanted = ["--rps", f"{share * middle:.2f}", "--for", str(bench.pick(600, 30))]
            run = load_once(bench, f"held-{share:.2f}", [*wanted, "--seed", "100"], load)
            verdict = run["verdict"]
            p95 = 1000 * run["functions"][EMBED]["latency_p95_s"]["value"]
            what = f"ten minutes at {share:.2f} of it"
            yield Number(f"{what}: p95", [p95], "ms",
                         note=f"{verdict['outcome']}, expected {expected}")  # fmt: skip
            yield Number(f"{what}: worker's time of a row", [1000 * run["row_s"]], "ms")
            yield Number(f"{what}: as expected", [float(verdict["outcome"] == expected)],
                         at_least=1)  # fmt: skip


def load_once(
    bench: Bench,
    name: str,
    options: Sequence[str],
    load: Callable[[Sequence[str]], dict[str, Any]],
) -> dict[str, Any]:
    """What a load test gives; it is kept under a name, and taken from there where it was made with
    the same options by a run that goes on now.
    """
    file = bench.folder / f"{name}.json"
    if bench.resumes and file.exists():
        kept: dict[str, Any] = json.loads(file.read_text())
        if kept["options"] == list(options):
            say(f"{name}: of {file}")
            return kept
    found = {**load(options), "options": list(options)}
    put(file, json.dumps(found))
    return found


def nothing_found(printed: Mapping[str, Any]) -> str:
    """Why a search, or a run, proves nothing; empty where it does."""
    if "steps" in printed:
        return "" if printed["steps"] else str(printed["words"])
    return str(printed["was_limited"])


def _load_embed(bench: Bench, server: Server, options: Sequence[str]) -> dict[str, Any]:
    """What a load test of `embed` printed, with the server's seconds of a row meanwhile.

    Raises:
        ChildFailed: it proves nothing, such as beside other programs.
    """
    watch = ServerWatch(server.client, [EMBED])
    before = watch.sample(0.0)
    found = _load(bench, server, EMBED, options)
    if why := nothing_found(found):
        raise ChildFailed(why)
    return {**found, "row_s": row_s([*before, *watch.sample(1.0)], EMBED)}


def replay(bench: Bench) -> Iterator[Number]:
    """Calls that were recorded are sent again and recorded again: by how much their times of
    arrival differ, counted from the median of the differences.
    """
    folder = bench.folder / "captures"
    alone = replace(bench, start=local)
    with alone.serve(TRIVIAL, _trivial(), WAKEFUL_CAPTURES=str(folder)) as server:
        seconds = bench.pick(60, 10)
        _load(bench, server, TRIVIAL, ["--rps", str(REPLAYED_RPS), "--for", str(seconds)])
        first = _recorded(folder)
        kept = bench.folder / "first.jsonl"
        shutil.copy(_file(folder), kept)
        _load(bench, server, TRIVIAL, ["--trace", str(kept)])
        second = _recorded(folder)[len(first) :]
    void = "" if len(first) == len(second) else f"{len(second)} calls came of {len(first)}"
    off_ms = 1000 * np.abs(_apart(first, second)) if not void else np.array([math.nan])
    for part, most in ((50, math.inf), (99, REPLAY_WITHIN_MS)):
        yield Number(f"arrival of a replayed call, off by: p{part}",
                     [float(np.percentile(off_ms, part))], "ms", f"{len(first)} calls",
                     void=void, at_most=most)  # fmt: skip


def _apart(first: Sequence[float], second: Sequence[float]) -> npt.NDArray[np.float64]:
    """By how much each time differs from its pair's, the median of all taken away."""
    differences = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    apart: npt.NDArray[np.float64] = differences - np.median(differences)
    return apart


def _file(folder: Path) -> Path:
    return next(folder.rglob(f"{TRIVIAL}.jsonl"))


def _recorded(folder: Path) -> list[float]:
    """When the calls so far arrived, in order."""
    time.sleep(WRITTEN_S)
    return [call.at for call in read_capture(_file(folder)).calls]


def _embed() -> declare.Application:
    """With a text of a page, one worker, and a promise."""
    ((text, _),) = write_texts(MODEL.with_name("tokenizer.json"), [TOKENS])
    return declare.like(
        EMBED,
        example={"text": text},
        resources={"num_cpus": 1},
        autoscaling=ONE,
        slo={"latency_p95_ms": PROMISED_MS},
    )


def _trivial() -> declare.Application:
    """One that computes nothing, and whose calls are recorded."""
    graph = [{"stage": "answer", "python": "loadtests.stages:answer"}]
    capture = {"rate": 1, "keep": 100_000}
    return declare.function(TRIVIAL, graph, example={"x": 1.5}, autoscaling=ONE, capture=capture)


def _load(bench: Bench, server: Server, function: str, options: Sequence[str]) -> dict[str, Any]:
    """What `wakeful loadtest` printed as JSON.

    Raises:
        ChildFailed: it was not run to its end.
    """
    log = bench.log("load")
    log.unlink(missing_ok=True)
    file = bench.folder / f"{function}.yaml"
    command = ["loadtest", str(file), "--url", server.url, "--json", *options]
    status = server.wakeful(*command, log=log, timeout_s=LOAD_S)
    text = log.read_text()
    if status not in VERDICTS:
        raise ChildFailed(f"wakeful {' '.join(command)} ended with {status}: {text[-500:]}")
    return read_printed(text)


def read_printed(text: str) -> dict[str, Any]:
    """The JSON of a command, of its output and its progress.

    Raises:
        ValueError: there is none.
    """
    if (begin := re.search(r"^\{", text, re.MULTILINE)) is None:
        raise ValueError(f"no JSON in: {text[-500:]}")
    printed: dict[str, Any]
    printed, _ = json.JSONDecoder().raw_decode(text, begin.start())
    return printed


TABLE = Table(
    "python -m loadtests.loadtest.found",
    HEAD,
    {"capacity": capacity, "replay": replay},
    problem,
    """Search for the capacity of a server five times, and replay a recorded traffic.

    Starts `wakeful run` with one function. Prints a table. With `--keep` what each search found
    stays in that folder, and `--resume` takes it from there.
    """,
)

if __name__ == "__main__":
    TABLE.as_command()(prog_name="python -m loadtests.loadtest.found")
