"""The modules of the console's page in a browser, as they lie there, without a server of functions."""

from __future__ import annotations

import functools
import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from runtime.http.catalogue.console.page import ASSETS, import_map
from tests import browser

WHERE = "console/assets/"
"""Where the page has its files."""

NAMES = {
    name: name
    for name in (path.relative_to(ASSETS).as_posix() for path in sorted(ASSETS.rglob("*.js")))
}
PAGE = f"""<!doctype html>
<meta charset="utf-8">
<title>Modules</title>
<script type="importmap">{import_map(NAMES)}</script>
<div id="console"></div>
"""
"""A page of which modules find each other and their libraries, and that does nothing itself."""


class _QuietHandler(SimpleHTTPRequestHandler):
    """Serves the page and the modules."""

    def do_GET(self) -> None:
        """The page at each address that is none of a module."""
        if self.path.startswith(f"/{WHERE}"):
            self.path = self.path.removeprefix(f"/{WHERE.rstrip('/')}")
            super().do_GET()
            return
        content = PAGE.encode()
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words: object) -> None:
        """Nothing is printed."""


class ModulesPage:
    """A page that has modules of the console.

    Args:
        url: where it is.
    """

    def __init__(self, page: browser.Page, url: str) -> None:
        self.page = page
        self.url = url
        self._numbers = itertools.count()

    def begin(self, *modules: str, fragment: str = "", first: str = "") -> browser.Page:
        """A new page, on which ``m`` has what these modules export.

        Args:
            modules: their paths below the assets.
            first: of JavaScript, before any of them.
        """
        page = self.page
        page.evaluate("void (window.isOld = true)")
        # of the same address only the fragment would change
        page.command("Page.navigate", url=f"{self.url}/?{next(self._numbers)}{fragment}")
        page.wait_for("!window.isOld && document.readyState === 'complete'")
        page.evaluate(f"void (() => {{ {first} }})()")
        names = json.dumps([f"{self.url}/{WHERE}{name}" for name in modules])
        page.evaluate(
            f"Promise.all({names}.map((name) => import(name)))"
            ".then((all) => { window.m = Object.assign({}, ...all); })"
        )
        return page


@contextmanager
def opened(folder: Path) -> Iterator[ModulesPage]:
    """The page, in a browser with a profile in this folder."""
    handler = functools.partial(_QuietHandler, directory=str(ASSETS))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            with browser.opened(f"{url}/", folder) as page:
                page.wait_for(f"location.href.startsWith({json.dumps(url)})")
                yield ModulesPage(page, url)
        finally:
            server.shutdown()
            thread.join()


def value(page: browser.Page, expression: str) -> Any:
    """What an expression comes to, or the promise that it is, as JSON has it."""
    text = page.evaluate(
        f"Promise.resolve({expression}).then((it) => JSON.stringify(it) ?? 'null')"
    )
    return json.loads(text)
