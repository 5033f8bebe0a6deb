"""``make docs``: the pages become a site, without a warning, and it loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

_LOADED = re.compile(
    r'<(?:script|img|iframe|source)\b[^>]*\bsrc="([^"]*)"|<link\b[^>]*\bhref="([^"]*)"|url\(([^)]*)\)'
)


@pytest.mark.slow
def test_the_pages_become_a_site(tmp_path):
    """Each page of docs/ is one of the site; its scripts, styles, fonts and pictures are its own."""
    result = subprocess.run(
        [
            *(sys.executable, "-m", "mkdocs", "build", "--quiet"),
            *("--config-file", "docs/site/mkdocs.yml", "--site-dir", str(tmp_path)),
        ],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (result.returncode, result.stdout + result.stderr) == (0, "")
    pages = {
        path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")
    }
    made = {path.relative_to(tmp_path).with_suffix("") for path in tmp_path.rglob("*.html")}
    assert {str(page).replace("README", "index") for page in pages} <= {str(page) for page in made}
    loaded = [
        target
        for path in [*tmp_path.rglob("*.html"), *tmp_path.rglob("*.css")]
        for found in _LOADED.findall(path.read_text(encoding="utf-8"))
        for target in found
        if target
    ]
    assert len(loaded) > 100
    assert [target for target in loaded if re.match(r"[\"']?(?:https?:)?//", target)] == []
