"""Records docs/waking.svg, the picture of a function that wakes: ``python docs/waking.py``.

Every line of it is what a command printed on this machine.
"""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parents[1]
COLUMNS = 100
PORT = 8431
START_S = 120
CALL = (
    "curl -so answer -w '%{http_code} in %{time_total} s\\n' --json @text.json {}/v2/models/embed"
)

STEPS = (
    ("# eight functions are served by one process; a minute without calls, and they sleep", "", ""),
    ("wakeful sleep embed", "wakeful sleep embed", ""),
    ("wakeful status", "wakeful status", "function|embed|listen"),
    ("# the call that wakes it, and the next one", "", ""),
    (CALL.replace("{}", "localhost:8000"), CALL.replace("{}", f"localhost:{PORT}"), ""),
    (CALL.replace("{}", "localhost:8000"), CALL.replace("{}", f"localhost:{PORT}"), ""),
    ("wakeful status", "wakeful status", "function|embed|listen"),
)
"""What is shown, what is run, and a pattern of the lines that are kept; a comment runs nothing."""


def record(environ: dict[str, str], folder: str) -> Console:
    """The steps with what they printed, in a folder."""
    Path(folder, "text.json").write_text('{"text": "The quick brown fox"}')
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), highlight=False)
    for shown, command, kept in STEPS:
        if not command:
            console.print(Text(shown, style="bright_black"))
            continue
        console.print(Text.assemble(("$ ", "bright_green"), (shown, "bold")))
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environ,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        for line in done.stdout.splitlines():
            if re.match(kept, line):
                console.print(Text(line.rstrip()))
    return console


def main() -> None:
    """Serves the shipped functions, records, and ends the server."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        scripts = Path(sys.executable).parent
        environ = {
            **os.environ,
            "TMPDIR": folder,
            "COLUMNS": str(COLUMNS),
            "PATH": f"{scripts}:{os.environ['PATH']}",
        }
        command = [str(scripts / "wakeful"), "run", "serve_config.yaml", "--port", str(PORT)]
        with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL) as server:
            try:
                until = time.monotonic() + START_S
                ready = ["curl", "-sf", "-o", os.devnull, f"localhost:{PORT}/v2/health/ready"]
                while subprocess.run(ready, check=False).returncode:
                    if time.monotonic() > until or server.poll() is not None:
                        raise SystemExit("the server did not come up")
                    time.sleep(0.1)
                console = record(environ, folder)
            finally:
                server.send_signal(signal.SIGINT)
        console.save_svg(
            str(ROOT / "docs/waking.svg"), title="wakeful run serve_config.yaml", theme=MONOKAI
        )


if __name__ == "__main__":
    main()
