"""The rows of what hostile clients send (docs/reliability.md, by number), as bodies: JSON, tensors
and binary data, 11 to 22, and 27 of a request's own id.
"""

from __future__ import annotations

import json
import struct
from functools import partial
from typing import Any

from tests import basic
from tests.hostile.rows import BODY, Row, post

DOUBLE = "/v2/models/double/infer"
GREET = "/hello/there"


def _json(number: int, name: str, body: bytes, status: int = 400, **more: Any) -> Row:
    return Row(number, name, partial(post, body), (status,), **more)


def _texts() -> list[Row]:
    """11 to 13: what is no JSON, or none that is read; 14 of fields."""
    malformed = {
        "nothing": b"",
        "a trailing comma": b'{"values": [1],}',
        "a byte order mark": b"\xef\xbb\xbf" + BODY,
        "UTF-16": BODY.decode().encode("utf-16"),
        "what is no UTF-8": b'{"unit": "\xff", "values": [1]}',
        "half a pair": b'{"unit": "\\ud800", "values": [1]}',
        "two values": BODY * 2,
        "a comment": b'{"values": [1] /* */}',
        "an escape that is none": b'{"unit": "\\x41", "values": [1]}',
        "a line end in a text": b'{"unit": "\n", "values": [1]}',
        "text cut off": BODY[:-1],
    }
    numbers = {
        "NaN": b"NaN",
        "Infinity": b"-Infinity",
        "1e400": b"1e400",
        "hex": b"0x1",
        "zeros": b"01",
    }
    return [
        *(_json(11, name, body, code="malformed_body") for name, body in malformed.items()),
        _json(11, "null", b"null"),
        _json(11, "no rows", b"[]", 200),
        _json(11, "a repeated key", b'{"values": [1], "values": [2]}', 200),
        *(
            _json(12, f"{depth} deep", b"[" * depth + b"]" * depth)
            for depth in (65, 1000, 49_000)
        ),
        _json(12, "250,000 deep", b"[" * 250_000 + b"]" * 250_000, 413, code="too_large"),
        _json(12, "deep objects", b'{"a":' * 1000 + b"1" + b"}" * 1000),
        _json(12, "brackets that do not close", b"[" * 90_000),
        *(
            _json(13, name, b'{"values": [%b]}' % text, code="malformed_body")
            for name, text in numbers.items()
        ),
        _json(13, "5,000 digits", b'{"values": [%b]}' % (b"9" * 5000)),
        _json(13, "minus zero", b'{"values": [-0]}', 200),
        _json(14, "true for a number", b'{"values": [true]}', code="wrong_datatype", where="values[0]"),
        _json(14, "text for a number", b'{"values": ["1"]}', code="wrong_datatype", where="values[0]"),
        Row(14, "1.5 for an integer", lambda: post(b'{"name": "a", "times": 1.5}', path=GREET), (400,)),
        Row(14, "more than an integer has", lambda: post(b'{"name": "a", "times": %b}' % (b"9" * 30), path=GREET), (400,)),
    ]  # fmt: skip


def _infer(request: Any, path: str = basic.INFER) -> bytes:
    return post(json.dumps(request).encode(), path=path)


def _tensor(shape: Any = (1, 1), data: Any = (1,), datatype: str = "FP64", **more: Any) -> Any:
    return {
        "inputs": [{"name": "values", "shape": shape, "datatype": datatype, "data": data}],
        **more,
    }


def _tensors() -> list[Row]:
    """14 to 18: values, shapes, names and datatypes of `/infer` in JSON; 27: its id."""
    shapes: dict[str, tuple[Any, Any]] = {
        "negative": ([-1, 1], [1]),
        "a fraction": ([1.5, 1], [1]),
        "a text": (["1", 1], [1]),
        "true": ([True, 1], [1]),
        "null": (None, [1]),
        "a number": (1, [1]),
        "nested": ([[1, 1]], [1]),
        "10,000 dimensions": ([1] * 10_000, [1]),
        "2**32 twice": ([2**32, 2**32], []),
        "2**63": ([2**63, 1], [1]),
        "2**64": ([2**64, 0], []),
        "zeros and 2**62": ([0, 2**62], []),
    }
    ragged: dict[str, tuple[Any, Any]] = {
        "less data": ([1, 3], [1, 2]),
        "more data": ([1, 1], [1, 2]),
        "ragged": ([2, 2], [[1, 2], [3]]),
        "another nesting": ([2, 2], [[[1], [2]], [[3], [4]]]),
        "another rank": ([1, 1, 1], [1]),
    }
    one = _tensor()["inputs"][0]
    names: dict[str, Any] = {
        "no inputs": {"inputs": []},
        "inputs that are none": {"inputs": {}},
        "an unknown input": {"inputs": [{**one, "name": "value"}]},
        "an input twice": {"inputs": [one, one]},
        "an input without a name": {"inputs": [{**one, "name": None}]},
        "an output twice": {**_tensor(), "outputs": [{"name": "mean"}] * 2},
        "3,000 outputs": {**_tensor(), "outputs": [{"name": f"o{n}"} for n in range(3000)]},
    }
    datatypes = ("INT322", "FP32", "FP16", "BF16", "fp64", "", "BYTES", "__class__")
    return [
        *(Row(15, name, partial(_infer, _tensor(*of)), (400,)) for name, of in shapes.items()),
        *(Row(16, name, partial(_infer, _tensor(*of)), (400,)) for name, of in ragged.items()),
        Row(16, "a fixed dimension", lambda: _infer({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}, DOUBLE), (400,), code="wrong_shape"),
        Row(16, "more rows than there may be", lambda: _infer(_tensor([21, 1], [1] * 21)), (413,), code="too_large"),
        Row(16, "more rows of JSON", lambda: post(b"[" + b",".join([BODY] * 21) + b"]"), (413,), code="too_large"),
        *(Row(17, name, partial(_infer, request), (400,)) for name, request in names.items()),
        *(Row(18, f"datatype {name!r}", partial(_infer, _tensor(datatype=name)), (400,)) for name in datatypes),
        Row(14, "a text for FP64", lambda: _infer(_tensor(data=["1"])), (400,), code="wrong_datatype", where="inputs[0].data[0]"),
        Row(14, "true for FP64", lambda: _infer(_tensor(data=[True])), (400,), code="wrong_datatype", where="inputs[0].data[0]"),
        Row(27, "an id of 90,000", lambda: _infer(_tensor(id="a" * 90_000)), (400,)),
        Row(27, "an id with a line end", lambda: _infer(_tensor(id="a\nb")), (400,)),
        Row(27, "an id that is a number", lambda: _infer(_tensor(id=7)), (400,)),
    ]  # fmt: skip


def _binary(
    size: Any,
    binary: bytes,
    *,
    head: bytes | None = None,
    shape: Any = (1, 2),
    datatype: str = "FP64",
    **more: Any,
) -> bytes:
    """A request whose one tensor is binary; ``head`` instead of the true length of its JSON."""
    parameters = {"binary_data_size": size}
    tensor = {
        "name": "values",
        "shape": shape,
        "datatype": datatype,
        "parameters": parameters,
        **more,
    }
    text = json.dumps({"inputs": [tensor]}).encode()
    said = b"%d" % len(text) if head is None else head
    header = b"inference-header-content-length: %b\r\n" % said
    return post(text + binary, header, path=basic.INFER, media=b"")


def _heads() -> list[Row]:
    """19: the length of a request's JSON, wrong in every way."""
    heads = {
        "negative": b"-1",
        "letters": b"abc",
        "nothing": b"",
        "too many digits": b"99999999999",
        "20 digits": b"9" * 20,
        "more than the body": b"5000",
        "within the JSON": b"40",
        "none": b"0",
        "a plus": b"+10",
        "a fraction": b"1.0",
    }
    twice = b"inference-header-content-length: 9\r\n"
    return [
        *(Row(19, name, partial(_binary, 16, bytes(16), head=head), (400,)) for name, head in heads.items()),
        Row(19, "twice", lambda: _binary(16, bytes(16)).replace(b"\r\n\r\n", b"\r\n" + twice + b"\r\n", 1), (400,)),
        Row(19, "within a letter", lambda: post('{"é'.encode(), b"inference-header-content-length: 3\r\n", path=basic.INFER, media=b""), (400,)),
    ]  # fmt: skip


def _sizes() -> list[Row]:
    """20 to 22: binary data."""
    sizes: dict[str, tuple[Any, bytes]] = {
        "negative": (-16, bytes(16)),
        "a fraction": (16.0, bytes(16)),
        "a text": ("16", bytes(16)),
        "true": (True, bytes(16)),
        "more than there is": (16, bytes(8)),
        "less than there is": (16, bytes(24)),
        "no multiple": (15, bytes(15)),
        "2**63": (2**63, bytes(16)),
        "2**64": (2**64, bytes(16)),
    }
    found = [
        Row(20, name, partial(_binary, size, data), (400,)) for name, (size, data) in sizes.items()
    ]
    found.append(Row(20, "beside data", lambda: _binary(16, bytes(16), data=[1, 2]), (400,)))
    unit = struct.Struct("<I")
    texts = {
        "a length of 4 GiB": unit.pack(0xFFFFFFFF),
        "a length cut off": b"\x01\0",
        "more behind": unit.pack(1) + b"mm",
        "two for one": (unit.pack(1) + b"m") * 2,
        "what is no UTF-8": unit.pack(1) + b"\xff",
    }

    def text(data: bytes) -> bytes:
        unit_input = {
            "name": "unit",
            "shape": [1],
            "datatype": "BYTES",
            "parameters": {"binary_data_size": len(data)},
        }
        values = {"name": "values", "shape": [1, 1], "datatype": "FP64", "data": [1]}
        head = json.dumps({"inputs": [values, unit_input]}).encode()
        header = b"inference-header-content-length: %d\r\n" % len(head)
        return post(head + data, header, path=basic.INFER, media=b"")

    found += [Row(21, name, partial(text, data), (400,)) for name, data in texts.items()]
    found.append(Row(21, "a NUL", lambda: text(unit.pack(2) + b"m\0"), (200,)))
    nan = struct.pack("<2d", float("nan"), float("inf"))
    found += [
        Row(22, "NaN in binary", lambda: _binary(16, nan), (200,)),
        Row(22, "a BOOL of 2", lambda: _binary(2, b"\x02\x00", datatype="BOOL"), (400,)),
    ]
    return found


BODIES: list[Row] = [*_texts(), *_tensors(), *_heads(), *_sizes()]
