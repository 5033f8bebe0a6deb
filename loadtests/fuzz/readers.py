"""Everything that reads bytes of a stranger, each as a function of bytes that raises its refusal or
nothing: what a fuzzer calls (``guided``), and the tests with bytes of their own making.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from deployments.loadtest.calls.captures import read_capture
from loadtests.fuzz.values import dump
from runtime.artifacts.lockfile import read_lock
from runtime.artifacts.triton.model_config import read_model_config
from runtime.declaration import config_file
from runtime.declaration.access.key_file import read_keys
from runtime.errors import DeclarationError, LoadError, RequestError, StoreError, WakefulError
from runtime.http import request_headers
from runtime.http.bodies import forms
from runtime.http.bodies.accept import prefers_file, read_ranges
from runtime.onnx.model_file import weights_of
from runtime.onnx.model_graph import read_graph
from runtime.onnx.model_info import inspect_model
from runtime.protocol.inference_codec import decode_request, read_header_length
from runtime.protocol.json_text import dumps, loads
from runtime.protocol.row_codec import decode_rows, encode_rows

MAX_ROWS: Final = 1024


@dataclass(frozen=True, slots=True)
class Reader:
    """One of them.

    Attributes:
        read: what is tried. refusals: what it may raise, and nothing else. seeds: bytes that it
        takes. file: the name of the file that it reads, whose path it is given; empty: it is given
        the bytes.
    """

    read: Callable[[Any], object]
    refusals: tuple[type[Exception], ...]
    seeds: Sequence[bytes]
    file: str = ""

    def attempt(self, data: bytes, folder: Path) -> None:
        """Read some bytes; a refusal is an answer.

        Args:
            folder: for its file.
        """
        given: Any = data
        if self.file:
            given = folder / self.file
            given.write_bytes(data)
        try:
            self.read(given)
        except self.refusals as error:
            str(error)


@contextmanager
def reading_folder() -> Iterator[Path]:
    """A folder for the files of readers, in memory where the machine has such a place."""
    shm = Path("/dev/shm")
    with TemporaryDirectory(prefix="fz-", dir=shm if shm.is_dir() else None) as name:
        yield Path(name)


def _read_request(data: bytes) -> object:
    """A v2 request: whether it has tensors behind its JSON, and from where on, are its first
    bytes.
    """
    if len(data) < 4:
        return None
    length = struct.unpack_from("<i", data)[0]
    return decode_request(data[4:], None if length == -1 else length)


def _read_rows(data: bytes) -> object:
    """Rows of Python values, and what is written of them again."""
    rows = decode_rows(data, MAX_ROWS)
    if any(isinstance(row, WakefulError) for row in rows):
        return None
    again = decode_rows(b"".join(encode_rows(rows)), MAX_ROWS)
    assert len(again) == len(rows)
    return again


def _read_json(data: bytes) -> object:
    """A JSON text, which is written as what it was read as."""
    value = loads(data)
    assert loads(dumps(value)) == value
    return value


def _read_multipart(data: bytes) -> object:
    """A form in parts; its first line is the content type."""
    kind, _, body = data.partition(b"\n")
    return forms.read_multipart(body, kind)


def _read_headers(data: bytes) -> object:
    """Headers that are read by us, a line each."""
    pairs = [line.partition(b": ")[::2] for line in data.split(b"\n")]
    fields = dict(pairs)
    texts = [value.decode("latin-1") for value in fields.values()]
    deadline = request_headers.read_deadline(fields, 30.0, 100.0, 1e9)
    assert 0 < deadline.allowed_s <= 30.0
    for value in fields.values():
        assert len(request_headers.printable_id(value)) <= request_headers.MAX_ID_LENGTH
    read_ranges(texts)
    prefers_file(texts, "image/png")
    read_header_length(
        [text for (name, _), text in zip(pairs, texts, strict=False) if b"length" in name]
    )
    return request_headers.sequence_from_headers(fields)


def _read_model(path: Path) -> None:
    for read in (inspect_model, weights_of, read_graph):
        try:
            read(path)
        except LoadError as error:
            str(error)


def _request(inputs: Sequence[tuple[str, str, Any]], *, is_binary: bool) -> bytes:
    entries, behind = [], b""
    for name, datatype, array in inputs:
        entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(np.shape(array))}
        if is_binary:
            data = array if isinstance(array, bytes) else np.asarray(array).tobytes()
            if isinstance(array, bytes):
                entry["shape"] = [2]
            behind += data
            entry["parameters"] = {"binary_data_size": len(data)}
        else:
            entry["data"] = np.asarray(array).tolist()
        entries.append(entry)
    text = dump(
        {
            "id": "a",
            "inputs": entries,
            "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
            "parameters": {"timeout": 1000, "sequence_id": 7, "binary_data_output": True},
        }
    )
    return struct.pack("<i", len(text) if is_binary else -1) + text + behind


_ARRAYS: Final = [
    ("x", "FP32", np.array([[1, 2], [3, 4]], np.float32)),
    ("i", "INT64", np.array([1, -1], np.int64)),
    ("b", "BOOL", np.array([True, False])),
]

_MODEL: Final = (
    b'\x08\x08:4\n\x0b\n\x01x\x12\x01y"\x03Neg\x12\x01g'
    b"Z\x10\n\x01x\x12\x0b\n\t\x08\x01\x12\x05\n\x03\x12\x01n"
    b"b\x10\n\x01y\x12\x0b\n\t\x08\x01\x12\x05\n\x03\x12\x01nB\x04\n\x00\x10\x11"
)
"""y = -x, float32 [n]."""

_FILE: Final = b"""\
http_options: {host: 127.0.0.1, port: 8000}
applications:
  - name: a
    route_prefix: /v2/models/a
    import_path: deployments:function
    args:
      graph:
        - {stage: b, python: "m:f", with: {k: [1, 2.5, "x"]}}
        - {stage: c, onnx: m.onnx, each: lines, when: not is_known, pad: {x: 0}}
      example: {text: "a", image: !file b.png}
      batching: {max_batch_size: 8}
      limits: {request_timeout_s: 10, max_rows: 5}
      autoscaling: {min_replicas: 0, max_replicas: 2}
"""

_CAPTURE: Final = (
    b'{"wakeful_capture":1,"function":"a","version":"v","began":1.5,"keep_s":60}\n'
    b'{"at":2.5,"id":"r","method":"POST","path":"/v2/models/a","headers":{"content-type":'
    b'"application/json"},"body":{"text":"a"},"status":200,"latency_ms":100.5,"answer":{"b":1}}\n'
)

_CONFIG: Final = b"""\
name: "a"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [{ name: "x" data_type: TYPE_FP32 dims: [ -1, 3 ] }]
dynamic_batching { preferred_batch_size: [4, 8] max_queue_delay_microseconds: 100 }
instance_group [{ count: 2 kind: KIND_CPU }]
"""

_LOCK: Final = b"""\
[wheels.a]
version = "1.0"
sha256 = "%b"
bytes = 5

[models.m]
wheel = "a"
members = {"m.onnx" = "a/m.onnx"}
""" % (b"0" * 64)

_KEYS: Final = (
    b'{"form": 1, "keys": [\n{"name": "ci", "sha256": "%b", "functions": ["embed"], "rps": 20.5,'
    b' "scope": ["call", "look"], "in_flight": 8, "expires": "2027-03-01"},\n{"name": "b",'
    b' "sha256": ["%b"], "former": [{"sha256": "%b", "until": "2027-03-01T10:00:00Z"}]}\n]}'
) % (b"0" * 64, b"1" * 64, b"2" * 64)

_HEADERS: Final = b"""\
x-request-timeout-seconds: 5.5
x-request-id: abc
x-sequence-id: s1
x-sequence-start: 1
x-wakeful-call: 1700000000000000-1
accept: text/html;q=0.8, image/*, */*;q=0.1
inference-header-content-length: 12"""

_PARTS: Final = (
    b"multipart/form-data; boundary=b\n--b\r\n"
    b'content-disposition: form-data; name="image"; filename="a.png"\r\n'
    b"content-type: image/png\r\n\r\n\x01\x02\r\n--b\r\n"
    b'content-disposition: form-data; name="n"\r\n\r\n10\r\n--b--\r\n'
)

READERS: Final[Mapping[str, Reader]] = {
    "v2": Reader(
        _read_request,
        (RequestError,),
        [
            _request(_ARRAYS, is_binary=False),
            _request(_ARRAYS, is_binary=True),
            _request([("t", "BYTES", b"\x01\0\0\0a\0\0\0\0"), *_ARRAYS], is_binary=True),
        ],
    ),
    "rows": Reader(
        _read_rows,
        (RequestError,),
        [
            b"".join(encode_rows([{"a": 1, "b": [1.5, None, b"x"], "c": (1, {"d": "e"})}])),
            b"".join(encode_rows([{"x": array} for _, _, array in _ARRAYS])),
        ],
    ),
    "json": Reader(
        _read_json, (RequestError,), [b'{"a": [1, 2.5e3, null, true, "\\u00e9\\n"], "b": {}}']
    ),
    "urlencoded": Reader(forms.read_urlencoded, (RequestError,), [b"a=1&b=%C3%A9+x&c=&a=2"]),
    "multipart": Reader(_read_multipart, (RequestError,), [_PARTS]),
    "headers": Reader(_read_headers, (RequestError,), [_HEADERS]),
    "declaration": Reader(config_file.read, (DeclarationError,), [_FILE], "f.yaml"),
    "capture": Reader(read_capture, (DeclarationError,), [_CAPTURE], "a.jsonl"),
    "model": Reader(_read_model, (), [_MODEL], "m.onnx"),
    "triton": Reader(read_model_config, (StoreError,), [_CONFIG], "config.pbtxt"),
    "keys": Reader(read_keys, (DeclarationError,), [_KEYS], "keys.json"),
    "lock": Reader(read_lock, (StoreError,), [_LOCK], "models.lock"),
}
"""By name."""
