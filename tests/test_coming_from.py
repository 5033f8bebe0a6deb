"""docs/coming-from.md: our side of each comparison is served, and answers as the page says."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from runtime.declaration.config_file import read
from runtime.graph.resolve import examine
from runtime.settings import Settings
from tests import onnx_models
from wakeful.testing import serve

PAGE = Path(__file__).parent.parent / "docs" / "coming-from.md"

SECTIONS = [
    section
    for section in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if 'title="serve_config.yaml"' in section
]


def test_each_peer_has_code_side_by_side() -> None:
    """Theirs and ours."""
    names = [section.partition("\n")[0] for section in SECTIONS]
    assert names == ["TorchServe", "Triton", "BentoML", "LitServe", "Ray Serve"]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.partition("\n")[0])
def test_our_side_answers_as_the_page_says(tmp_path, monkeypatch, section: str) -> None:
    """And passes `check` without a warning."""
    for title, content in re.findall(r'```\w+ title="([^"]+)"\n(.*?)```', section, re.DOTALL):
        (tmp_path / title).write_text(content)
    onnx_models.double(tmp_path / "models" / "double" / "1" / "model.onnx")
    monkeypatch.syspath_prepend(str(tmp_path))
    ((path, request, answer),) = re.findall(
        r"`POST (\S+)` with `(.*?)` is answered with `(.*?)`", section
    )
    file = tmp_path / "serve_config.yaml"
    examined = examine(read(file), Settings.read({"WAKEFUL_ROOT": str(tmp_path)}))
    assert not [*examined.problems, *examined.warnings]
    try:
        with serve(file) as app:
            answered = app.http.post(path, json=json.loads(request)).json()
    finally:
        for module in tmp_path.glob("*.py"):  # the next test may have one of the same name
            sys.modules.pop(module.stem, None)
    assert answered == json.loads(answer)
