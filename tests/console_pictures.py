"""Takes the pictures of the console for the docs, and measures its first paint and its bytes:
``python -m tests.console_pictures``. The functions are those that ship, under calls of some minutes.
"""

from __future__ import annotations

import io
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
from PIL import Image

from loadtests import declare
from tests import browser, serving
from tests.browser import Page

ROOT: Final = Path(__file__).parents[1]
CALLED_S: Final = 235.0
ROUNDS: Final = 10
RATES: Final = {"embed": 8.0, "moderate": 3.0, "forecast": 1.5, "classify": 0.8}
"""Calls a second, which come and go; the other functions are called once, or sleep."""

ONCE: Final = ("ocr", "highlight")
COLOURS: Final = 255
"""Of a picture: it stays below 200 kB."""


@contextmanager
def called(url: str) -> Iterator[None]:
    """Calls of the functions, until the block ends."""
    over = threading.Event()
    bodies = {name: declare.example(name) for name in (*RATES, *ONCE)}

    def call(name: str, rate: float) -> None:
        random_s = random.Random(name)
        began = time.monotonic()
        with httpx.Client(timeout=60) as client:
            while not over.wait(random_s.expovariate(rate)):
                if (time.monotonic() - began) % 90 < 60:  # it pauses
                    body = {} if random_s.random() < 0.02 else bodies[name]
                    client.post(f"{url}/v2/models/{name}", json=body)

    for name in ONCE:
        httpx.post(f"{url}/v2/models/{name}", json=bodies[name], timeout=120)
    threads = [threading.Thread(target=call, args=one) for one in RATES.items()]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def take(page: Page, path: Path) -> None:
    """Write what is seen, in few colours."""
    shown = Image.open(io.BytesIO(page.shot())).convert("RGB")
    shown.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


PAINTS: Final = """new Promise((found) => new PerformanceObserver((list) => found({
  first: performance.getEntriesByName('first-contentful-paint')[0].startTime,
  largest: list.getEntries().at(-1).startTime,
  bytes: performance.getEntriesByType('resource')
    .filter((one) => one.name.includes('/console/assets/'))
    .reduce((sum, one) => sum + one.encodedBodySize, 0),
})).observe({type: 'largest-contentful-paint', buffered: true}))"""


def measure(url: str) -> None:
    """Print the first paint and the bytes of a page that is opened for the first time."""
    rounds = []
    for _ in range(ROUNDS):
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
            browser.opened(f"{url}/console", Path(profile)) as page,
        ):
            page.wait_for("!!document.querySelector('.grid-body .grid-row')")
            rounds.append(page.evaluate(PAINTS))
    for name in ("first", "largest", "bytes"):
        values = sorted(one[name] for one in rounds)
        print(f"{name}: {statistics.median(values):.0f}, {values[0]:.0f} to {values[-1]:.0f}")


def main() -> None:
    """Serves, calls, measures, and takes the pictures."""
    with (
        tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder,
        serving.run(ROOT / "serve_config.yaml", root=ROOT, log=Path(folder, "log")) as url,
    ):
        measure(url)
        with (
            called(url),
            browser.opened(f"{url}/console", Path(folder, "profile")) as page,
        ):
            time.sleep(CALLED_S)
            page.command("Emulation.setScrollbarsHidden", hidden=True)
            page.look(1280, "light", 640)
            page.wait_for("document.querySelectorAll('.spark').length > 5")
            take(page, ROOT / "docs/console.png")
            page.evaluate("location.hash = '#/functions/embed'")
            page.look(1280, "dark", 1180)
            page.wait_for("document.querySelectorAll('.chart canvas').length >= 3")
            page.wait_for("!!document.querySelector('.node')")
            take(page, ROOT / "docs/console-function.png")


if __name__ == "__main__":
    main()
