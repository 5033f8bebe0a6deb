"""Answers that are files come through HAProxy as they are: from the host, from a replica of its own,
from a stage that is split off, and from a function that another calls over HTTP.
"""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import httpx
import pytest

from tests.deployments.projects import Standing
from tests.services.together.declared import FILES

pytestmark = pytest.mark.ray

LARGE = 3_000_000
"""Bytes: more than any buffer on the way."""


@pytest.mark.parametrize("name", FILES)
def test_an_answer_is_the_file(up: Standing, name: str, tmp_path: Path):
    """Whole, in part, and as text in JSON; a temporary file is gone afterwards."""
    is_written = name.startswith("written")
    call = {"count": LARGE, **({"folder": str(tmp_path)} if is_written else {})}
    with httpx.Client(base_url=up.url, timeout=60) as client:
        url = f"/v2/models/{name}"
        whole = client.post(url, json=call)
        assert (whole.status_code, whole.headers["content-type"].partition(";")[0]) == (
            200,
            "text/csv" if is_written else "image/svg+xml",
        )
        assert whole.content == b"<" * LARGE
        part = client.post(url, json=call, headers={"range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, b"<" * 10)
        assert part.headers["content-range"] == f"bytes 10-19/{LARGE}"
        text = client.post(url, json={**call, "count": 3}, headers={"accept": "application/json"})
        assert text.json() == {"file": b64encode(b"<<<").decode()}
    assert list(tmp_path.iterdir()) == []
