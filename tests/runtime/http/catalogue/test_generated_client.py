"""A client that openapi-python-client generates from the document of a server calls that server
rightly.
"""

from __future__ import annotations

import datetime as dt
import importlib
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from tests import odd_types, serving

pytestmark = pytest.mark.full

ROOT = Path(__file__).parents[4]
NAME = "generated_client"
SETTINGS = """\
package_name_override: generated_client
project_name_override: generated_client
post_hooks: []
content_type_overrides: {image/png: application/octet-stream}
"""
"""Its hooks format the code, and it knows no media type of pictures."""


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> Iterator[Any]:
    """The client's module, and a client of a server that runs."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "settings.yaml").write_text(SETTINGS)
    with serving.run(odd_types.write(folder), root=ROOT, log=folder / "log") as url:
        (folder / "openapi.json").write_bytes(httpx.get(f"{url}/openapi.json").content)
        made = subprocess.run(
            [
                *(sys.executable, "-m", "openapi_python_client", "generate"),
                *("--path", "openapi.json", "--config", "settings.yaml", "--meta", "none"),
                *("--output-path", NAME, "--fail-on-warning"),
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        sys.path.insert(0, str(folder))
        try:
            module = importlib.import_module(NAME)
            with module.Client(base_url=url, timeout=httpx.Timeout(30)) as client:
                yield client
        finally:
            sys.path.remove(str(folder))
            for loaded in [name for name in sys.modules if name.split(".")[0] == NAME]:
                del sys.modules[loaded]


def call(function: str, operation: str = "") -> Any:
    """The module of an operation."""
    return importlib.import_module(f"{NAME}.api.{function}.{operation or function}")


@pytest.fixture
def models(client) -> ModuleType:
    """The generated classes."""
    return importlib.import_module(f"{NAME}.models")


def test_a_function_of_odd_types(client, models):
    """Dates, enums, tuples and arrays go and come as Python's."""
    body = models.LookRequest.from_dict(odd_types.EXAMPLE)
    body.colour = models.LookColour.BLUE
    answer = call("look").sync(client=client, body=body)
    assert isinstance(answer, models.LookAnswer)
    assert answer.day == dt.date(2026, 2, 28)
    assert answer.colour == models.LookColour.BLUE
    assert answer.doubled == [[3.0, 0.0], [4.0, 6.0]]
    assert answer.note is None
    assert answer.tree.below[0].box.corner == [1, 1]
    assert answer.boxes["1"].name == "second"


def test_rows_and_errors(client, models):
    """An array is answered by an array with the errors of single rows, a wrong call by an error."""
    good = models.LookRequest.from_dict(odd_types.EXAMPLE)
    bad = models.LookRequest.from_dict({**odd_types.EXAMPLE, "title": ""})
    answers = call("look").sync(client=client, body=[good, bad])
    assert [type(answer).__name__ for answer in answers] == ["LookAnswer", "RowError"]
    assert (answers[1].status, answers[1].where) == (400, "[1].title")
    refused = call("look").sync_detailed(client=client, body=bad)
    assert refused.status_code == 400
    assert refused.parsed.where == "title"


def test_the_other_kinds(client, models):
    """A mapping with a header, a body as it is, a stream, a sequence, v2 and the catalogue."""
    request = models.WholeRequest.from_dict({"request": {"a": 1.5, "b": 2.0}})
    mapped = call("whole").sync(client=client, body=request, x_tenant="t")
    assert mapped.additional_properties == {"t": 3.5}
    types = importlib.import_module(f"{NAME}.types")
    sized = call("size").sync(client=client, body=types.File(payload=io.BytesIO(b"\x00" * 9)))
    assert sized.size == 9
    streamed = call("count").sync(client=client, body=models.CountRequest(to=2))
    assert streamed.startswith('data: {"corner":[0,0]}\n\n')
    for first, total in ((1, 3), (0, 6)):
        added = call("add").sync(
            client=client,
            body=models.AddRequest(n=3),
            x_sequence_id="s",
            x_sequence_start=models.AddXSequenceStart(first),
        )
        assert added.so_far == total
    infer = models.SizeInferBody.from_dict(
        {"inputs": [{"name": "body", "datatype": "BYTES", "shape": [1], "data": ["four"]}]}
    )
    found = call("size", "size_infer").sync(client=client, body=infer)
    assert found.outputs[0].data == [4.0]
    metadata = call("size", "size_metadata").sync(client=client)
    assert metadata.inputs[0].name == "body"
    assert call("server", "server_ready").sync(client=client).ready is True
    index = call("server", "list_functions").sync(client=client)
    assert "look" in [function.name for function in index.functions]
