"""What `ocr` costs beside its models, and what callers gain who share its runs: ``python -m loadtests.bench.reading``.

The server is `wakeful run`; every call is the sample page of seven lines, and an answer without its words makes a number void.

- *Framework share*: of a call's time, as its caller sees it, what its models did not run. With one worker, so that no two runs are at
  the same time and their sum is time that passed.
- *Rows a run*: eight callers of one function, whose lines share the recogniser's runs, against eight callers of a copy of the function
  each, whose lines share runs with each other only. The same process, workers and models; a line's answer tells its company.
"""

from __future__ import annotations

import asyncio
import copy
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import click
import orjson

from loadtests.bench import machine, report
from loadtests.bench.children import ended_in_order
from loadtests.bench.figures import Number, Target
from loadtests.bench.serving import HOST, FirstCall, Server, free_port, local
from loadtests.http1 import Connection
from runtime.specfile import read

SAMPLE: Final = Path("models/ocr/sample.png")
FIRST_LINE: Final = "Region-based segmentation"
LINES: Final = 7
LIMIT_S: Final = 1200.0
SINGLE: Final = "/v2/models/single"
SHARED: Final = "/v2/models/shared"


@dataclass(frozen=True, slots=True)
class Answered:
    """One call.

    Attributes:
        seconds: from sending to the whole answer.
        model_s: that the models ran for it, by its ``Server-Timing``.
        company: of each line, how many lines were in its run.
        wrong: what is wrong with it; empty when nothing is.
    """

    seconds: float
    model_s: float
    company: tuple[int, ...]
    wrong: str


def framework_share(answers: Sequence[Answered]) -> float:
    """Of the whole time of some calls, the share in which no model ran."""
    whole_s = sum(answer.seconds for answer in answers)
    return 1 - sum(answer.model_s for answer in answers) / whole_s


def rows_a_run(answers: Sequence[Answered]) -> float:
    """Lines over runs; a line in a run of four is a quarter of one."""
    company = [count for answer in answers for count in answer.company]
    return len(company) / sum(1 / count for count in company)


def declared(shipped: Mapping[str, Any], callers: int) -> dict[str, Any]:
    """A file of `ocr` as it ships, told how lines were read, once for each use.

    Args:
        shipped: ``args`` of `ocr`.
    """
    args = copy.deepcopy(dict(shipped))
    for stage in args["graph"]:
        stage.pop("deployment", None)
    args["graph"].insert(-1, {"stage": "company", "python": "loadtests.bench.company:company", "each": "lines"})
    args["graph"].append({"stage": "told", "python": "loadtests.bench.company:told"})
    single = {**args, "resources": {**args.get("resources", {}), "num_cpus": 1}}
    names = {"single": single, "shared": args, **{f"own{number}": args for number in range(callers)}}
    applications = [
        {"name": name, "route_prefix": f"/v2/models/{name}", "import_path": "deployments:function", "args": each}
        for name, each in names.items()
    ]
    return {"http_options": {"host": HOST, "port": 8000}, "applications": applications}


async def call(connection: Connection, path: str, page: bytes) -> Answered:
    """One call of a function by the page itself."""
    sent = time.perf_counter()
    await connection.exchange("POST", path, page, {"content-type": "image/png"})
    seconds = time.perf_counter() - sent
    if connection.status != 200:
        raise click.ClickException(f"{path}: status {connection.status}: {connection.body[:300].decode(errors='replace')}")
    answer = orjson.loads(connection.body)
    found = re.search(r"model;dur=([\d.]+)", connection.headers["server-timing"])
    texts = [line["text"] for line in answer["lines"]]
    wrong = "" if len(texts) == LINES and texts[0] == FIRST_LINE else f"a page was read as {texts}"
    return Answered(seconds, float(found[1]) / 1e3 if found else 0.0, tuple(answer["company"]), wrong)


async def caller(port: int, path: str, page: bytes, until: float) -> list[Answered]:
    """Calls one after the other until the time is over."""
    answers = []
    async with Connection(HOST, port) as connection:
        while time.perf_counter() < until:
            answers.append(await call(connection, path, page))
    return answers


async def callers(port: int, paths: Sequence[str], page: bytes, seconds: float) -> tuple[list[Answered], float]:
    """A caller of each path at once; the calls, and how long it took until the last was answered."""
    began = time.perf_counter()
    each = await asyncio.gather(*(caller(port, path, page, began + seconds) for path in paths))
    return [answer for answers in each for answer in answers], time.perf_counter() - began


def measure(server: Server, page: bytes, count: int, rounds: int, seconds: float) -> list[Number]:
    """All numbers, in alternating rounds."""
    ways = {"single": [SINGLE], "shared": [SHARED] * count, "own": [f"/v2/models/own{number}" for number in range(count)]}
    for paths in ways.values():
        asyncio.run(callers(server.port, paths, page, 0.1))  # wakes them
    found: dict[str, list[tuple[list[Answered], float]]] = {way: [] for way in ways}
    for number in range(1, rounds + 1):
        click.echo(f"round {number} of {rounds}", err=True)
        for way, paths in ways.items():
            found[way].append(asyncio.run(callers(server.port, paths, page, seconds)))
    void = "; ".join({answer.wrong for each in found.values() for answers, _ in each for answer in answers if answer.wrong})
    rows = {way: [rows_a_run(answers) for answers, _ in each] for way, each in found.items()}
    rate = {way: [len(answers) / passed for answers, passed in each] for way, each in found.items()}

    def ratio(of: Mapping[str, list[float]]) -> tuple[float, ...]:
        return tuple(one / other for one, other in zip(of["shared"], of["own"], strict=True))

    share = tuple(framework_share(answers) for answers, _ in found["single"])
    seven = f"`ocr`, a page of {LINES} lines"
    many = f"`ocr`, {count} callers"
    return [
        Number(f"{seven}: framework share of a call", share, "", Target("at most", 0.08), "time in which no model runs; one worker", void),
        Number(f"{many}: lines a run of the recogniser", tuple(rows["shared"]), "", note="across callers", void=void),
        Number(f"{many}: lines a run of the recogniser", tuple(rows["own"]), "", note="each by himself", void=void),
        Number(f"{many}: lines a run, ratio", ratio(rows), "", Target("at least", 2), void=void),
        Number(f"{many}: pages a second", tuple(rate["shared"]), "req/s", note="across callers", void=void),
        Number(f"{many}: pages a second", tuple(rate["own"]), "req/s", note="each by himself", void=void),
        Number(f"{many}: pages a second, ratio", ratio(rate), "", Target("at least", 0.97), "no worse, within the spread", void),
    ]


@click.command()
@click.option("--callers", "count", default=8, show_default=True, help="At the same time.")
@click.option("--rounds", default=3, show_default=True, help="Alternating ones.")
@click.option("--seconds", default=20.0, show_default=True, help="Of load in each part of a round.")
@click.option("--file", "shipped", type=Path, default="serve_config.yaml", show_default=True, help="The file that declares `ocr`.")
def main(count: int, rounds: int, seconds: float, shipped: Path) -> None:
    """Prints a table."""
    if not SAMPLE.is_file():
        raise click.ClickException(f"missing: {SAMPLE}. Run `wakeful models pull ocr` in the project's folder.")
    args = next(function for function in read(shipped).functions if function.name == "ocr").to_args()
    with ended_in_order(LIMIT_S), TemporaryDirectory(prefix="reading-") as folder:
        file = Path(folder) / "ocr.yaml"
        file.write_bytes(orjson.dumps(declared(args, count)))  # JSON is YAML
        first = FirstCall(SINGLE, args["example"])
        with local(file, free_port(), first, Path(folder) / "log") as server:
            numbers = measure(server, SAMPLE.read_bytes(), count, rounds, seconds)
    click.echo(f"{machine.describe()}.\n\n{report.table(numbers)}")


if __name__ == "__main__":
    main()
