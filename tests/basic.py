"""A small file of functions, and what every way of serving it must answer."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests import onnx_models

FUNCTIONS = """\
  - name: mean
    route_prefix: /v2/models/mean
    import_path: deployments:function
    args:
      description: The mean of some numbers.
      graph:
        - {stage: tensors, python: "tests.basic_stages:tensors"}
        - {stage: model, onnx: mean.onnx}
        - {stage: answer, python: "tests.basic_stages:answer"}
      example: {values: [1, 2, 3]}
      batching: {max_batch_size: 8}
      limits: {max_rows: 20, max_body_bytes: 100000}
      autoscaling: {min_replicas: 1}
  - name: greet
    route_prefix: /hello/there
    import_path: deployments:function
    args:
      graph: [{stage: greet, python: "tests.basic_stages:greet"}]
      autoscaling: {min_replicas: 1}
  - name: double
    route_prefix: /v2/models/double
    import_path: deployments:function
    args: {onnx: double.onnx, autoscaling: {min_replicas: 1}}
  - name: fixed
    route_prefix: /v2/models/fixed
    import_path: deployments:function
    args: {onnx: fixed.onnx, autoscaling: {min_replicas: 1}}
  - name: sum
    route_prefix: /v2/models/sum
    import_path: deployments:function
    args:
      graph: [{stage: total, python: "tests.basic_stages:total"}]
      accepts: [image/*]
      example: {image: !file sample.png}
      autoscaling: {min_replicas: 1}
"""

DECLARATION = f"""\
http_options: {{host: 127.0.0.1, port: 8000}}
applications:
  - name: catalogue
    route_prefix: /
    import_path: deployments:catalogue
{FUNCTIONS}"""


def write(root: Path) -> Path:
    """The file, with the models it names, in a folder."""
    onnx_models.masked_mean(root / "mean.onnx")
    onnx_models.double(root / "double.onnx")
    onnx_models.double(root / "fixed.onnx", (2, 2))
    (root / "sample.png").write_bytes(PNG)
    path = root / "serve_config.yaml"
    path.write_text(DECLARATION)
    return path


@dataclass(frozen=True)
class Case:
    """A request, and what must come back; ``answer`` is compared key by key."""

    name: str
    path: str
    body: Any = None
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    answer: Any = None
    code: str = ""
    where: str = ""

    def check(self, client: httpx.Client) -> httpx.Response:
        """Sends it and compares."""
        response = client.request(**self.request())
        self.compare(response)
        return response

    def request(self) -> dict[str, Any]:
        """What a client's ``request`` takes."""
        request = {"method": self.method, "url": self.path, "headers": dict(self.headers)}
        if isinstance(self.body, bytes):
            return {**request, "content": self.body}
        return request if self.body is None else {**request, "json": self.body}

    def compare(self, response: httpx.Response) -> None:
        """With what must come back; the text of an error is compared in tests/messages.txt."""
        assert response.status_code == self.status, response.text
        assert response.headers["content-type"] == "application/json"
        assert response.headers["x-request-id"]
        found = response.json()
        if self.status >= 400:
            assert set(found) == {"error", "code", "where", "request_id"}
            assert (found["code"], found["where"]) == (self.code, self.where), found
            assert found["request_id"] == response.headers["x-request-id"]
        if self.answer is not None:
            assert found == self.answer, found


MEAN, INFER = "/v2/models/mean", "/v2/models/mean/infer"
JSON = {"content-type": "application/json"}
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256))
"""Begins as a picture does."""


def tensor(name: str, shape: Any, datatype: str, data: Any) -> dict[str, Any]:
    """A v2 request of one input."""
    return {"inputs": [{"name": name, "shape": shape, "datatype": datatype, "data": data}]}


CASES = [
    Case(
        "call",
        MEAN,
        {"values": [1, 2, 6]},
        answer={"mean": 3.0, "twice": [3.0, 3.0], "label": "3.0 m"},
    ),
    Case(
        "call with a default overridden",
        MEAN,
        {"values": [1], "unit": "km"},
        answer={"mean": 1.0, "twice": [1.0, 1.0], "label": "1.0 km"},
    ),
    Case(
        "call under another prefix",
        "/hello/there",
        {"name": "Ada", "times": 2},
        answer={"greeting": "hello Ada hello Ada"},
    ),
    Case("call a bare model", "/v2/models/double", {"x": [1, 2, 3]}, answer={"y": [2.0, 4.0, 6.0]}),
    Case(
        "call a model without rows",
        "/v2/models/fixed",
        {"x": [[1, 2], [3, 4]]},
        answer={"y": [[2.0, 4.0], [6.0, 8.0]]},
    ),
    Case(
        "an array of rows",
        "/hello/there",
        [{"name": "a"}, {"name": "b"}],
        answer=[{"greeting": "hello a"}, {"greeting": "hello b"}],
    ),
    Case("no rows", MEAN, [], answer=[]),
    Case("too many rows", MEAN, [{"values": [1]}] * 21, status=413, code="too_large"),
    Case(
        "more rows than a batch",
        "/v2/models/double",
        [{"x": [n, 0, 0]} for n in range(40)],
        answer=[{"y": [2.0 * n, 0, 0]} for n in range(40)],
    ),
    Case(
        "body too large",
        MEAN,
        b"[" + b" " * 100_001 + b"]",
        headers=JSON,
        status=413,
        code="too_large",
    ),
    Case("no JSON", MEAN, b"{values: 1}", headers=JSON, status=400, code="malformed_body"),
    Case("empty body", MEAN, b"", headers=JSON, status=400, code="malformed_body"),
    Case("a number", MEAN, 3, status=400, code="wrong_datatype"),
    Case(
        "form",
        MEAN,
        b"values=1",
        headers={"content-type": "application/x-www-form-urlencoded"},
        answer={"mean": 1.0, "twice": [1.0, 1.0], "label": "1.0 m"},
    ),
    Case(
        "a form that is JSON",
        MEAN,
        b'{"values": [1]}',
        headers={"content-type": "application/x-www-form-urlencoded"},
        status=415,
        code="unsupported_media_type",
        where="content-type",
    ),
    Case(
        "a form in parts",
        "/v2/models/sum",
        b'--b\r\ncontent-disposition: form-data; name="image"; filename="a.png"\r\n'
        b"content-type: image/png\r\n\r\n\x01\x02\r\n--b\r\n"
        b'content-disposition: form-data; name="times"\r\n\r\n10\r\n--b--\r\n',
        headers={"content-type": "multipart/form-data; boundary=b"},
        answer={"total": 30},
    ),
    Case(
        "a form in parts that ends early",
        "/v2/models/sum",
        b'--b\r\ncontent-disposition: form-data; name="image"\r\n\r\n\x01',
        headers={"content-type": "multipart/form-data; boundary=b"},
        status=400,
        code="malformed_body",
        where="image",
    ),
    Case(
        "a picture that is said to be a form",
        "/v2/models/sum",
        PNG,
        headers={"content-type": "application/x-www-form-urlencoded"},
        status=415,
        code="unsupported_media_type",
        where="content-type",
    ),
    Case(
        "a picture in the place of JSON",
        MEAN,
        PNG,
        status=415,
        code="unsupported_media_type",
        where="content-type",
    ),
    Case(
        "a picture in the place of lines",
        MEAN,
        PNG,
        headers={"content-type": "application/x-ndjson"},
        status=415,
        code="unsupported_media_type",
        where="content-type",
    ),
    Case(
        "a picture to a function that does not accept it",
        MEAN,
        PNG,
        headers={"content-type": "image/png"},
        status=415,
        code="unsupported_media_type",
        where="content-type",
    ),
    Case(
        "a picture in the place of v2",
        "/v2/models/sum/infer",
        PNG,
        headers=JSON,
        status=415,
        code="unsupported_media_type",
        where="content-type",
    ),
    Case(
        "a file under another name than the field's",
        "/v2/models/sum",
        b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.png"\r\n'
        b"content-type: image/png\r\n\r\n" + PNG + b"\r\n--b--\r\n",
        headers={"content-type": "multipart/form-data; boundary=b"},
        status=400,
        code="unknown_input",
        where="file",
    ),
    Case(
        "an input that there is not, whose values are wrong",
        INFER,
        tensor("file", [1], "FP32", ["no number"]),
        status=400,
        code="unknown_input",
        where="inputs[0].name",
    ),
    Case(
        "a field that there is not, beside one that is wrong",
        MEAN,
        {"values": "none", "file": "x"},
        status=400,
        code="unknown_input",
        where="file",
    ),
    Case(
        "lines",
        MEAN,
        b'{"values": [1]}\n{"values": [3]}\n',
        headers={"content-type": "application/x-ndjson"},
        answer=[
            {"mean": 1.0, "twice": [1.0, 1.0], "label": "1.0 m"},
            {"mean": 3.0, "twice": [3.0, 3.0], "label": "3.0 m"},
        ],
    ),
    Case(
        "gzip",
        MEAN,
        gzip.compress(b'{"values": [1, 3]}'),
        headers={**JSON, "content-encoding": "gzip"},
        answer={"mean": 2.0, "twice": [2.0, 2.0], "label": "2.0 m"},
    ),
    Case(
        "a query",
        MEAN + "?unit=m",
        {"values": [1]},
        status=400,
        code="unknown_input",
        where="query",
    ),
    Case(
        "a body as it is",
        "/v2/models/sum",
        bytes(range(256)),
        headers={"content-type": "image/png"},
        answer={"total": 32640},
    ),
    Case(
        "and as base64", "/v2/models/sum", {"image": "AAECAw==", "times": 10}, answer={"total": 60}
    ),
    Case(
        "a body of another type",
        "/v2/models/sum",
        b"RIFF",
        headers={"content-type": "audio/wav"},
        status=415,
        code="unsupported_media_type",
        where="content-type",
    ),
    Case(
        "compressed",
        MEAN,
        b"x",
        headers={**JSON, "content-encoding": "br"},
        status=415,
        code="unsupported_media_type",
        where="content-encoding",
    ),
    Case("missing field", MEAN, {}, status=400, code="missing_input", where="values"),
    Case(
        "unknown field",
        MEAN,
        {"values": [1], "value": 1},
        status=400,
        code="unknown_input",
        where="value",
    ),
    Case(
        "text where numbers belong",
        MEAN,
        {"values": ["a"]},
        status=400,
        code="wrong_datatype",
        where="values[0]",
    ),
    Case(
        "constraint",
        "/hello/there",
        {"name": "a", "times": 9},
        status=400,
        code="bad_request",
        where="times",
    ),
    Case(
        "refused by a stage", MEAN, {"values": [13]}, status=400, code="bad_request", where="values"
    ),
    Case("a stage that fails", MEAN, {"values": [14]}, status=500, code="function_failed"),
    Case("unknown function", "/v2/models/meen", {"values": [1]}, status=404, code="not_found"),
    Case(
        "unknown route of a function", "/v2/models/mean/explain", {}, status=404, code="not_found"
    ),
    Case("wrong method", MEAN, method="DELETE", status=405, code="method_not_allowed"),
    Case("infer by GET", INFER, method="GET", status=405, code="method_not_allowed"),
    Case(
        "v2 unknown input",
        INFER,
        tensor("value", [1, 1], "FP64", [1]),
        status=400,
        code="unknown_input",
        where="inputs[0].name",
    ),
    Case(
        "v2 to the other route",
        MEAN,
        tensor("values", [1, 1], "FP64", [1]),
        status=400,
        code="missing_input",
        where="values",
    ),
    Case(
        "and the reverse",
        INFER,
        {"values": [1]},
        status=400,
        code="unknown_input",
        where="",
    ),
    Case(
        "v2 missing input", INFER, {"inputs": []}, status=400, code="missing_input", where="inputs"
    ),
    Case(
        "v2 datatype",
        INFER,
        tensor("values", [1, 1], "FP32", [1]),
        status=400,
        code="wrong_datatype",
        where="inputs[0].datatype",
    ),
    Case(
        "v2 rank",
        INFER,
        tensor("values", [1], "FP64", [1]),
        status=400,
        code="wrong_shape",
        where="inputs[0].shape",
    ),
    Case(
        "v2 element count",
        INFER,
        tensor("values", [1, 2], "FP64", [1]),
        status=400,
        code="wrong_shape",
        where="inputs[0].data",
    ),
    Case(
        "v2 huge shape",
        INFER,
        tensor("values", [2**32, 2**32], "FP64", []),
        status=400,
        code="wrong_shape",
        where="inputs[0].shape",
    ),
    Case(
        "v2 text",
        INFER,
        tensor("values", [1, 1], "FP64", ["a"]),
        status=400,
        code="wrong_datatype",
        where="inputs[0].data[0]",
    ),
    Case(
        "v2 unknown output",
        INFER,
        {**tensor("values", [1, 1], "FP64", [1]), "outputs": [{"name": "m"}]},
        status=400,
        code="unknown_input",
        where="outputs[0].name",
    ),
    Case(
        "v2 fixed dimension",
        "/v2/models/double/infer",
        tensor("x", [1, 4], "FP32", [1, 2, 3, 4]),
        status=400,
        code="wrong_shape",
        where="inputs[0].shape[1]",
    ),
    Case(
        "v2 by JSON",
        INFER,
        {
            "id": "7",
            **tensor("values", [2, 2], "FP64", [1, 3, 4, 4]),
            "outputs": [{"name": "label"}, {"name": "mean"}],
        },
        answer={
            "model_name": "mean",
            "model_version": "1",
            "id": "7",
            "outputs": [
                {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["2.0 m", "4.0 m"]},
                {"name": "mean", "datatype": "FP64", "shape": [2], "data": [2.0, 4.0]},
            ],
        },
    ),
    Case(
        "v2 under a version",
        "/v2/models/mean/versions/1/infer",
        tensor("values", [1, 1], "FP64", [5]),
    ),
    Case(
        "v2 of a model without rows",
        "/v2/models/fixed/infer",
        tensor("x", [2, 2], "FP32", [1, 2, 3, 4]),
    ),
    Case(
        "metadata",
        MEAN,
        method="GET",
        answer={
            "name": "mean",
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": [
                {"name": "values", "datatype": "FP64", "shape": [-1, -1]},
                {
                    "name": "unit",
                    "datatype": "BYTES",
                    "shape": [-1],
                    "parameters": {"optional": True, "default": "m"},
                },
            ],
            "outputs": [
                {"name": "mean", "datatype": "FP64", "shape": [-1]},
                {"name": "twice", "datatype": "FP32", "shape": [-1, 2]},
                {"name": "label", "datatype": "BYTES", "shape": [-1]},
            ],
            "parameters": {"description": "The mean of some numbers."},
        },
    ),
    Case("ready", "/v2/models/mean/ready", method="GET", answer={"name": "mean", "ready": True}),
    Case("live", "/v2/health/live", method="GET", answer={"live": True}),
    Case("all ready", "/v2/health/ready", method="GET"),
    Case("server metadata", "/v2", method="GET"),
]
