"""`make fix`: writes the reference pages anew. Tests compare each page with what made it."""

from __future__ import annotations

from pathlib import Path

from deployments.cli import reference as commands
from runtime.declaration import reference as declaration
from tests import errors_page, metrics_page

DOCS = Path(__file__).parent.parent / "docs"

PAGES = {
    "declaration.md": declaration.declaration,
    "settings.md": declaration.settings,
    "cli.md": commands.page,
    "errors.md": errors_page.page,
    "metrics.md": metrics_page.page,
}
"""File in docs/ to the function that says what stands in it."""


def main() -> None:
    """Writes every page."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
