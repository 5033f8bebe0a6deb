"""ONNX cases that the `onnx` package generates, with tensors in and out, and that bare ONNX Runtime
passes: a bare function each; and a sample of them in random companies, of which all are `python -m
tests.conformance.company`. To generate them takes longer than either, so they are in one process.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from pathlib import Path

import pytest

from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec
from runtime.execution.function import Function
from runtime.protocol import decode_request, encode_response
from runtime.settings import Settings
from tests.conformance import cases
from tests.conformance.cases import Array, Case
from tests.conformance.company import examine_all
from tests.conformance.wire import arrays_of, body_of
from tests.inference import infer

pytestmark = pytest.mark.slow

EVERY = 67
"""In company, one case of so many."""

FEWEST_OPERATORS = 150
FEWEST = 1300
"""ONNX Runtime 1.31 passes 1,375 of the 1,664; 1.32 passes 1,566."""


@pytest.mark.parametrize(
    "fewest",
    [FEWEST_OPERATORS, pytest.param(FEWEST, marks=pytest.mark.full)],
    ids=["operators", "all"],
)
def test_a_bare_function_answers_what_bare_onnx_runtime_answers(
    tmp_path: Path, fewest: int
) -> None:
    """In binary form, through everything but the socket; and what the case says. One of each
    operator, or all.
    """
    failed, count = asyncio.run(
        _run(tmp_path, cases.generated() if fewest == FEWEST else cases.of_each_operator())
    )
    assert count >= fewest
    assert not failed, f"{len(failed)} of {count}:\n" + "\n".join(failed)


def test_no_answer_of_a_sample_is_moved_by_its_batch_mates():
    """Of the cases that come as files and of the generated ones, one in so many; four companies
    each.
    """
    some = itertools.islice(itertools.chain(cases.shipped(), cases.generated()), 3, None, EVERY)
    tally = examine_all(some, 4, 1)
    assert tally.held >= 5
    assert tally.shared > 0
    assert not tally.moved, str(tally)


async def _run(folder: Path, some: Iterable[Case]) -> tuple[list[str], int]:
    workers = Workers(1)
    failed, count = [], 0
    try:
        for case in some:
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
    function = await Function.load(
        FunctionSpec.from_args("f", "/v2/models/f", {"onnx": "model.onnx"}),
        settings,
        workers=workers,
    )
    try:
        for inputs, outputs, wanted in zip(case.inputs, bare, case.outputs, strict=True):
            request = decode_request(*body_of(inputs))
            response, _ = await infer(function, request)
            pieces, length = encode_response(response, request)
            found = list(
                arrays_of(
                    pieces if isinstance(pieces, bytes) else b"".join(pieces), length
                ).values()
            )
            case.compare(found, wanted)
            case.agree(found, outputs)
    finally:
        await function.close(1.0)
