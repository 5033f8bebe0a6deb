"""How long a fresh start takes to the first answer, and what everything holds in memory once both functions are loaded."""

from __future__ import annotations

from pathlib import Path

from loadtests.bench import memory
from loadtests.bench.figures import Number, Target
from loadtests.bench.serving import FirstCall, Server, up
from loadtests.bench.setting import Bench
from loadtests.samples import EMBED, FORECAST, embed_json, forecast_json

CALLS = 20
"""Calls of each function before memory is read: what is allocated only on use is then allocated."""


def startup(bench: Bench, config: Path, port: int) -> list[Number]:
    """`wakeful up` of the file users get, several times, each ended by `wakeful down`."""
    seconds, held, wrong = [], [], ""
    first = FirstCall(EMBED, embed_json(0))
    for number in range(1, bench.pace.starts + 1):
        bench.say(f"wakeful up: start {number} of {bench.pace.starts}")
        with up(config, port, first, bench.folder / f"up-{number}.log") as server:
            seconds.append(server.first_answer_s)
            wrong = wrong or use_both(server)
            held.append(memory.measure(server.processes()))
    processes = f"{len(held[-1].names)} processes"
    return [
        Number("`wakeful up` to first answer of `embed`", tuple(seconds), "s", Target("at most", 10), "from the start of the command"),
        Number(
            "RSS of all processes",
            tuple(m.rss_bytes / 1e6 for m in held),
            "MB",
            Target("at most", 1600),
            f"both functions, {processes}",
            wrong,
        ),
        Number("PSS of all processes", tuple(m.pss_bytes / 1e6 for m in held), "MB", note="what they share counted once", void=wrong),
    ]


def use_both(server: Server) -> str:
    """Calls both shipped functions; why that went wrong, or empty."""
    for path, sample in ((EMBED, embed_json), (FORECAST, forecast_json)):
        for index in range(CALLS):
            answer = server.post(path, sample(index))
            if answer.status_code != 200:
                return f"{path}: status {answer.status_code}: {answer.text[:100]}"
    return ""
