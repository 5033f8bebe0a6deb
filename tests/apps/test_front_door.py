"""The shipped functions are the first code that a user reads, and copies."""

from __future__ import annotations

import ast
from pathlib import Path

APPS = Path(__file__).parents[2] / "apps"


def test_a_shipped_function_imports_from_wakeful_alone():
    """Not from the engine, of which nothing else is promised (`apps/build` makes models with it)."""
    found = {
        f"{path.name}: {node.module}"
        for path in APPS.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").partition(".")[0] in ("runtime", "deployments")
    }
    assert found == set()
