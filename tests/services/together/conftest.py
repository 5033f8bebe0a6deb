"""The functions of ``declared``, served together: what takes time is to serve others, not to call
them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.deployments.projects import HOST, Standing
from tests.onnx_models import double
from tests.runtime.artifacts.remote.servers import serve_files
from tests.services.together.declared import declared, fetched


@pytest.fixture(scope="package")
def up(standing: Standing, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """Up, with all of them."""
    elsewhere = pull(standing, tmp_path_factory.mktemp("elsewhere"))
    with standing.served(*HOST, *declared(), elsewhere):
        yield standing
    (standing.folder / "models.lock").unlink()


def pull(standing: Standing, folder: Path) -> str:
    """The entry of a model that lay elsewhere: it is pulled, and only the lock has its digest."""
    model = double(folder / "m.onnx").read_bytes()
    with serve_files({"m.onnx": model}) as files:
        source = f"{files.url}/m.onnx"
        standing.declare(fetched(source))
        lock = f'[files."{source}"]\nsha256 = "{hashlib.sha256(model).hexdigest()}"\n'
        (standing.folder / "models.lock").write_text(f"{lock}bytes = {len(model)}\n")
        outcome = standing.run("models", "pull")
        assert outcome.returncode == 0, outcome.stderr
    return fetched(source)


@pytest.fixture(scope="package")
def client(up: Standing) -> Iterator[httpx.Client]:
    """A client of the server."""
    with httpx.Client(base_url=up.url, timeout=30) as client:
        yield client
