"""What mkdocs does beyond its configuration.

Pages are written for the repository, and link to its code. A site has no code, so such a link
becomes the path that it leads to. A page that the navigation does not name stands at its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent
ROOT = DOCS.parent

_LINK = re.compile(r"\[([^\]\n]+)\]\((?!https?:|#)([^)\s#]+)(#[^)\s]*)?\)")
_FENCE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)


def on_config(config: Any) -> Any:
    """Return the configuration with every page in the navigation."""
    known = set(_paths(config.nav))
    pages = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
    if others := [page for page in pages if page not in known]:
        config.nav.append({"More": others})
    return config


def _paths(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
        return
    for inner in entry.values() if isinstance(entry, dict) else entry:
        yield from _paths(inner)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return the page with links to what is on the site alone."""
    folder = (DOCS / page.file.src_uri).parent
    parts = _FENCE.split(markdown)
    return "".join(
        part if index % 2 else _LINK.sub(lambda found: _link(found, folder), part)
        for index, part in enumerate(parts)
    )


def _link(found: re.Match[str], folder: Path) -> str:
    text, target = found.group(1), (folder / found.group(2)).resolve()
    if target.is_relative_to(DOCS) and target.suffix == ".md":
        return found.group(0)
    path = target.relative_to(ROOT).as_posix() if target.is_relative_to(ROOT) else target.name
    return text if text.strip("`") in path else f"{text} (`{path}`)"
