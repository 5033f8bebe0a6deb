"""Throughput over HTTP with wrk: so many connections, each with one request in flight, for so long."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from loadtests.bench.children import Child, ChildFailed

SCRIPT = Path(__file__).with_name("post.lua")
FIELDS = re.compile(r"(\w+)=(\d+)")


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw.

    Attributes:
        requests: answered.
        seconds: how long it took.
        refused: answers of status 400 and above. wrk lets a redirect pass: one answer has to be checked beforehand.
        broken: connections that failed and requests that got no answer in time.
        p50_s, p99_s: latency, as wrk sees it.
    """

    requests: int
    seconds: float
    refused: int
    broken: int
    p50_s: float
    p99_s: float

    @property
    def requests_per_s(self) -> float:
        """Answered requests a second."""
        return self.requests / self.seconds

    @property
    def void(self) -> str:
        """Why the rate means nothing; empty when every request was answered well."""
        if not self.requests:
            return "no request was answered"
        if self.refused or self.broken:
            return f"{self.refused} of {self.requests} answers were refusals, {self.broken} requests broke"
        return ""


def missing() -> str:
    """How to install wrk; empty when it is there."""
    return "" if shutil.which("wrk") else "wrk is not installed: apt-get install wrk"


def run(url: str, bodies: Sequence[Mapping[str, object]], connections: int, seconds: float, threads: int = 1) -> Load:
    """Posts the bodies in turn over ``connections`` connections for ``seconds`` (wrk counts whole ones, at least 1).

    Raises:
        ChildFailed: wrk is absent or did not end as it should.
    """
    if absent := missing():
        raise ChildFailed(absent)
    with TemporaryDirectory() as folder:
        lines, log = Path(folder, "bodies"), Path(folder, "log")
        lines.write_text("".join(json.dumps(body) + "\n" for body in bodies))
        whole = max(1, round(seconds))
        options = ["-t", str(threads), "-c", str(connections), "-d", f"{whole}s", "--timeout", "10s", "-s", str(SCRIPT)]
        with Child(["wrk", *options, url, "--", str(lines)], log) as child:
            if child.wait(whole + 20.0):
                raise child.failure("failed")
            return parse(log.read_text())


def parse(output: str) -> Load:
    """Reads the line that ``post.lua`` prints.

    Raises:
        ChildFailed: it is not there.
    """
    line = next((line for line in output.splitlines() if line.startswith("result ")), None)
    if line is None:
        raise ChildFailed(f"wrk printed no result:\n{output}")
    field = {name: int(value) for name, value in FIELDS.findall(line)}
    return Load(
        requests=field["requests"],
        seconds=field["duration_us"] / 1e6,
        refused=field["status"],
        broken=field["connect"] + field["read"] + field["write"] + field["timeout"],
        p50_s=field["p50_us"] / 1e6,
        p99_s=field["p99_us"] / 1e6,
    )
