"""`wakeful run` on a free port, as a shell starts it, with a state folder of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.deployments.projects import wait_until

ROOT = Path(__file__).parents[3]

FILE = """\
applications:
  - {{name: catalogue, route_prefix: /, import_path: "deployments:catalogue"}}
  - name: {name}
    route_prefix: /v2/models/{name}
    import_path: deployments:function
    args:
      graph: [{{stage: greet, python: "{name}_of_a_test:greet"}}]
      example: {{name: Ada}}
"""

STAGE = """\
def greet(name: str) -> dict[str, str]:
    print("greeting", name)
    return {"greeting": f"hello {name}"}
"""


@dataclass
class Shell:
    """A folder with a project, and a state folder that no other test has."""

    folder: Path
    short: str
    more: dict[str, str] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """Of every command."""
        return {
            **os.environ,
            "TMPDIR": self.short,
            "PYTHONPATH": str(ROOT),
            "WAKEFUL_CAPTURES": str(self.folder / "captures"),
            "XDG_STATE_HOME": str(self.folder / "state"),
            **self.more,
        }

    def write(self, name: str, stage: str = STAGE) -> None:
        """A function, and the file that declares it alone."""
        (self.folder / f"{name}_of_a_test.py").write_text(stage)
        (self.folder / "serve_config.yaml").write_text(FILE.format(name=name))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "deployments.cli", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    @contextmanager
    def serving(self, *arguments: str, ends_with: int = 0) -> Iterator[Run]:
        """`wakeful run --port 0 --json`, until it serves; ended by SIGTERM, with this status."""
        log = self.folder / "run.log"
        with log.open("a") as err:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "deployments.cli",
                    "run",
                    "--port",
                    "0",
                    "--json",
                    *arguments,
                ],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
            )
        run = Run(process, log)
        reader = threading.Thread(target=run.read, daemon=True)
        reader.start()
        try:
            yield run
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            status = process.wait(60)
            reader.join(10)
        assert status == ends_with, f"{status}: {log.read_text()}"


@dataclass
class Run:
    """A run that was started; its events so far."""

    process: subprocess.Popen[str]
    log: Path
    events: list[dict[str, Any]] = field(default_factory=list)

    def read(self) -> None:
        """Keep its events, until its end."""
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.events.append(json.loads(line))

    def wait_for(self, text: str, count: int = 1) -> None:
        """Until so many events hold a text."""

        def have_come() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return sum(text in json.dumps(event) for event in self.events) >= count

        wait_until(have_come)

    @property
    def url(self) -> str:
        """Where it serves; waits for that."""
        self.wait_for('"serving"')
        return next(event["url"] for event in self.events if event["event"] == "serving")

    def call(self, name: str = "hello") -> str:
        """What it greets with."""
        response = httpx.post(f"{self.url}/v2/models/{name}", json={"name": "bo"}, timeout=60)
        assert response.status_code == 200, response.text
        return str(response.json()["greeting"])


@contextmanager
def shell(folder: Path) -> Iterator[Shell]:
    """A project with the function `hello`."""
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as short:
        made = Shell(folder, short)
        made.write("hello")
        yield made
