"""One HTML page that asks nothing of the network: what jinja2 puts into a template, which escapes
every text.

Names, codes and notes may be of a hostile server. They are text in HTML, never markup, never in a
script or a style, and never drawn; should one get through nevertheless, the page's policy runs no
script but its own and asks nothing of the network.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

ASSETS: Final = Path(__file__).parent / "assets"


def render_page(template: str, **values: Any) -> str:
    """A page by its template, with the style and the script that all pages have."""
    style, script = _asset("report.css"), _asset("report.js")
    page = _environment().get_template(template)
    return page.render(style=style, script=script, script_digest=_digest(script), **values)


def format_moment(epoch_s: float) -> str:
    """When, in UTC; a dash for what is no time."""
    try:
        return f"{datetime.fromtimestamp(epoch_s, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return "–"


def _environment() -> Environment:
    """A template that escapes everything but what is marked as markup."""
    return Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _asset(name: str) -> Markup:
    """A file of ours, which is put in as it is."""
    return Markup((ASSETS / name).read_text(encoding="utf-8"))


def _digest(script: str) -> str:
    """What the page's policy names a script by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
