"""Every ONNX case that the `onnx` package generates, with tensors in and out, and that bare ONNX Runtime passes: a bare function each."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from runtime.batching.workers import Workers
from runtime.function import Function
from runtime.settings import Settings
from runtime.spec import FunctionSpec
from runtime.wire import decode, encode
from tests.conformance import cases
from tests.conformance.cases import Array, Case
from tests.conformance.wire import arrays_of, body_of

pytestmark = pytest.mark.slow

FEWEST = 1300
"""ONNX Runtime 1.31 passes 1,375 of the 1,664; 1.32 passes 1,566."""


def test_a_bare_function_answers_what_bare_onnx_runtime_answers(tmp_path: Path) -> None:
    """In binary form, through everything but the socket; and what the case says."""
    failed, count = asyncio.run(_run(tmp_path))
    assert count >= FEWEST
    assert not failed, f"{len(failed)} of {count}:\n" + "\n".join(failed)


async def _run(folder: Path) -> tuple[list[str], int]:
    workers = Workers(1)
    failed, count = [], 0
    try:
        for case in cases.generated():
            bare = case.bare()
            if bare is None:
                continue
            count += 1
            (folder / "model.onnx").write_bytes(case.model)
            try:
                await _check(case, bare, Settings(folder, folder / "models"), workers)
            except Exception as error:  # the next one may pass
                failed.append(f"{case.name}: {type(error).__name__}: {error}")
    finally:
        workers.close(1.0)
    return failed, count


async def _check(case: Case, bare: list[list[Array]], settings: Settings, workers: Workers) -> None:
    function = await Function.load(FunctionSpec.from_args("f", "/v2/models/f", {"onnx": "model.onnx"}), settings, workers=workers)
    try:
        for inputs, outputs, wanted in zip(case.inputs, bare, case.outputs, strict=True):
            request = decode(*body_of(inputs))
            response, _ = await function.infer(request)
            pieces, length = encode(response, request)
            found = list(arrays_of(pieces if isinstance(pieces, bytes) else b"".join(pieces), length).values())
            case.compare(found, wanted)
            case.agree(found, outputs)
    finally:
        await function.close(1.0)
