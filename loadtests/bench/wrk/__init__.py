"""Load over HTTP by wrk: so many connections, each with one request in flight, for so long."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from loadtests import server

SCRIPT = Path(__file__).with_name("post.lua")
FIELDS = re.compile(r"(\w+)=(\d+)")


@dataclass(frozen=True, slots=True)
class Load:
    """The figures of one run of wrk.

    Attributes:
        requests: answered.
        refused: answers of status 400 and above. wrk lets a redirect pass: one answer has to be
            checked beforehand.
        broken: connections that failed and requests that got no answer in time.
        p50_ms, p99_ms: of the latency.
    """

    requests: int
    requests_per_s: float
    refused: int
    broken: int
    p50_ms: float
    p99_ms: float

    @property
    def void(self) -> str:
        """Why the rate means nothing; empty when every request was answered well."""
        if not self.requests:
            return "no request was answered"
        if self.refused or self.broken:
            return f"of {self.requests} answers {self.refused} refused, {self.broken} broke"
        return ""


def missing() -> str:
    """How to install wrk; empty when it is there."""
    return "" if shutil.which("wrk") else "wrk is not installed: apt-get install wrk"


def run(
    url: str,
    rows: Sequence[object],
    connections: int,
    seconds: float,
    headers: Mapping[str, str] | None = None,
) -> Load:
    """Posts rows in turn over ``connections`` connections (wrk counts whole seconds, at least 1).

    Args:
        headers: further ones of each request.

    Raises:
        ChildFailed: wrk did not end as it should.
    """
    whole = max(1, round(seconds))
    with TemporaryDirectory() as folder:
        lines, log = Path(folder, "bodies"), Path(folder, "log")
        lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
        options = ["-t", "1", "-c", str(connections), "-d", f"{whole}s", "--timeout", "10s"]
        for name, value in (headers or {}).items():
            options += ["-H", f"{name}: {value}"]
        command = ["wrk", *options, "-s", str(SCRIPT), url, "--", str(lines)]
        server.run(command, log, whole + 20.0)
        return parse(log.read_text())


def parse(output: str) -> Load:
    """Reads the line that ``post.lua`` prints.

    Raises:
        ChildFailed: it is not there.
    """
    line = next((line for line in output.splitlines() if line.startswith("result ")), None)
    if line is None:
        raise server.ChildFailed(f"wrk printed no result:\n{output}")
    found = {name: int(value) for name, value in FIELDS.findall(line)}
    broken = sum(found[name] for name in ("connect", "read", "write", "timeout"))
    rate = found["requests"] / (found["duration_us"] / 1e6)
    latencies_ms = found["p50_us"] / 1e3, found["p99_us"] / 1e3
    return Load(found["requests"], rate, found["status"], broken, *latencies_ms)
