"""`make load`: every shipped function's users for a short while, against what answers at the URL or what is started for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import httpx

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
WAKEFUL = [sys.executable, "-m", "deployments.cli"]


@click.command()
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="Where the functions answer.")
@click.option("--users", default=8, show_default=True, help="Users at the same time.")
@click.option("--seconds", default=15, show_default=True, help="How long.")
def main(url: str, users: int, seconds: int) -> None:
    """Runs Locust headless and prints its table; fails if an answer was wrong."""
    is_up = _is_live(url)
    if not is_up:
        subprocess.run([*WAKEFUL, "up", "--detach", "serve_config.yaml"], check=True, timeout=180)
    try:
        locust = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary", "--host", url]
        code = subprocess.run([*locust, "-u", str(users), "-r", str(users), "-t", f"{seconds}s"], timeout=seconds + 120).returncode
    finally:
        if not is_up:
            subprocess.run([*WAKEFUL, "down"], check=True, timeout=180)
    sys.exit(code)


def _is_live(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v2/health/live", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main()
