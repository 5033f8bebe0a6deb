from __future__ import annotations

from pathlib import Path

import pytest

from runtime.declaration import reference

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("page", ["declaration", "settings"])
def test_the_committed_page_is_what_the_models_say(page: str) -> None:
    """Run ``python -m runtime.declaration.reference docs`` when this fails."""
    assert (DOCS / f"{page}.md").read_text(encoding="utf-8") == getattr(reference, page)()


def test_every_key_has_a_reason() -> None:
    """No row of the pages has an empty cell."""
    rows = [
        line for line in (reference.declaration() + reference.settings()).splitlines() if line.startswith("|") and not line.startswith("|-")
    ]
    assert len(rows) > 60
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert len(cells) == 4, row
        assert all(cells), row


def test_writing_the_pages(tmp_path: Path) -> None:
    """Both, into the folder named."""
    reference.main(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["declaration.md", "settings.md"]
