"""`make fix`: writes the reference pages and the texts of errors. Tests compare each file with
what made it.
"""

from __future__ import annotations

import logging
from pathlib import Path

from tests import (
    dashboard_page,
    errors_page,
    first_hour,
    messages_page,
    metrics_page,
    python_page,
    reference_pages,
)

ROOT = Path(__file__).parent.parent

PAGES = {
    "docs/declaration.md": reference_pages.declaration,
    "docs/settings.md": reference_pages.settings,
    "docs/cli.md": reference_pages.command,
    "docs/errors.md": errors_page.page,
    "docs/first-hour.md": first_hour.page,
    "docs/metrics.md": metrics_page.page,
    "docs/monitoring/dashboard.json": dashboard_page.page,
    "docs/python-api.md": python_page.page,
    "tests/messages.txt": messages_page.page,
}
"""File to the function that makes its text."""


def main() -> None:
    """Writes every page."""
    logging.disable()  # one of the requests is to a function that fails
    for name, page in PAGES.items():
        (ROOT / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
