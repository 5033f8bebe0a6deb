"""The console of `wakeful run` in a browser, as its tests see it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import browser, onnx_models
from tests.browser import Page
from tests.deployments.local.running import Run, Shell, shell

needs_browser = pytest.mark.skipif(
    browser.CHROMIUM is None, reason="needs the Debian package chromium"
)

FILE = """\
applications:
  - {{name: catalogue, route_prefix: /, import_path: "deployments:catalogue"}}
  - name: fragile
    args:
      description: What it is told, as often as it is told.
      graph: [{{stage: say, python: "tests.console_stages:Fragile", with: {{broken: {broken}}}}}]
      example: {{text: hello}}
      limits: {{request_timeout_s: 20}}
  - name: mean
    args:
      description: The mean of some numbers.
      graph:
        - {{stage: tensors, python: "tests.basic_stages:tensors"}}
        - {{stage: model, onnx: mean.onnx}}
        - {{stage: answer, python: "tests.basic_stages:answer"}}
      batching: {{max_batch_size: 8}}
      autoscaling: {{min_replicas: 1}}
  - {{name: double, args: {{onnx: double.onnx}}}}
  - {{name: twice, args: {{graph: [{{stage: again, function: double}}]}}}}
"""
"""``mean`` stays awake; all are ready at first."""

LIVE = "!!document.querySelector('.connection.live')"


def write(project: Shell) -> Path:
    """The file and its models; returns the file that breaks ``fragile`` while it is there."""
    onnx_models.masked_mean(project.folder / "mean.onnx")
    onnx_models.double(project.folder / "double.onnx")
    broken = project.folder / "broken"
    (project.folder / "serve_config.yaml").write_text(FILE.format(broken=broken))
    return broken


@contextmanager
def served(folder: Path) -> Iterator[Run]:
    """The functions of ``FILE``, all of which but ``mean`` sleep."""
    with shell(folder) as project:
        write(project)
        with project.serving() as run:
            put_to_sleep(run.url, "fragile", "double", "twice")
            yield run


@contextmanager
def opened(
    url: str, folder: Path, fragment: str = "#/", *, flags: Sequence[str] = ()
) -> Iterator[Page]:
    """The page, once it is fed."""
    with browser.opened(f"{url}/console{fragment}", folder / "profile", flags) as page:
        page.wait_for(LIVE)
        yield page


def put_to_sleep(url: str, *names: str, **headers: str) -> None:
    """As `wakeful sleep` does."""
    for name in names:
        path = f"{url}/v2/repository/models/{name}/unload"
        assert httpx.post(path, headers=headers, timeout=60).status_code == 200, name


def text_of(page: Page, selector: str) -> str:
    """What is seen of an element; empty: it is not there."""
    found: str = page.evaluate(f"document.querySelector({selector!r})?.innerText ?? ''")
    return found


def wait_for_text(page: Page, selector: str, text: str) -> None:
    """Until it is seen in an element."""
    page.wait_for(f"document.querySelector({selector!r})?.innerText.includes({text!r})")


def click(page: Page, label: str) -> None:
    """A button of this name, once it may be pressed."""
    found = (
        "[...document.querySelectorAll('button')].find((one) =>"
        f" one.innerText.trim() === {label!r} && !one.disabled)"
    )
    page.wait_for(f"!!{found}")
    page.evaluate(f"{found}.click()")


def go(page: Page, fragment: str) -> None:
    """To another address of the page."""
    page.evaluate(f"void (location.hash = {fragment!r})")


def wait_for_names(page: Page, *names: str) -> None:
    """Until these functions are in the grid and no others, from top to bottom."""
    page.wait_for(
        "[...document.querySelectorAll('.grid-body .grid-row')]"
        ".sort((one, other) => one.ariaRowIndex - other.ariaRowIndex)"
        ".map((row) => row.querySelector('.cell.name a')?.innerText).filter(Boolean)"
        f".join(' ') === '{' '.join(names)}'"
    )


def import_of(page: Page, module: str, expression: str) -> Any:
    """What an expression with the names of a module of the page gives.

    Args:
        module: its path below the assets.
        expression: of JavaScript; the module is ``it``.
    """
    where = f"new URL('console/assets/{module}', document.baseURI)"
    return page.evaluate(f"import({where}).then((it) => {expression})")
