"""Every ONNX case that the `onnx` wheel ships and that bare ONNX Runtime passes: a bare function
each, called over HTTP in binary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import httpx
import pytest

from tests import serving
from tests.conformance import cases
from tests.conformance.cases import Case
from tests.conformance.wire import arrays_of, body_of

pytestmark = pytest.mark.slow

LOAD_S = 200.0
"""The light models' weights are computed when they load: vgg19 has 550 MB of them."""


@pytest.mark.parametrize(
    ("collect", "count"),
    [
        pytest.param(cases.shipped, 100, id="shipped"),
        pytest.param(cases.light, 9, id="light", marks=pytest.mark.full),
    ],
)
def test_a_bare_function_answers_what_bare_onnx_runtime_answers(
    tmp_path: Path, collect: Callable[[], Iterable[Case]], count: int
) -> None:
    """And what the case says. Those that bare ONNX Runtime does not pass are of operators that it
    has not.
    """
    ours = [(case, bare) for case in collect() if (bare := case.bare()) is not None]
    assert len(ours) >= count
    for case, _ in ours:
        (tmp_path / f"{case.name}.onnx").write_bytes(case.model)
    file = tmp_path / "serve_config.yaml"
    file.write_text("applications:\n" + "".join(_declared(case.name) for case, _ in ours))
    failed = []
    with (
        serving.run(file, root=tmp_path, log=tmp_path / "log", start_s=LOAD_S) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        for case, bare in ours:
            for inputs, outputs, wanted in zip(case.inputs, bare, case.outputs, strict=True):
                body, length = body_of(inputs)
                headers = {"Inference-Header-Content-Length": str(length)}
                answer = client.post(f"/v2/models/{case.name}/infer", content=body, headers=headers)
                try:
                    assert answer.status_code == 200, answer.text
                    head = answer.headers.get("Inference-Header-Content-Length")
                    found = list(arrays_of(answer.content, int(head) if head else None).values())
                    case.compare(found, wanted)
                    case.agree(found, outputs)
                except AssertionError as error:
                    failed.append(f"{case.name}: {error}")
    assert not failed, f"{len(failed)} of {len(ours)}:\n" + "\n".join(failed)


def _declared(name: str) -> str:
    path = f"/v2/models/{name}"
    return f"  - {{name: {name}, route_prefix: {path}, import_path: deployments:function, args: {{onnx: {name}.onnx}}}}\n"
