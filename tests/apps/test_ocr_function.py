"""`ocr` through the engine, in one process: one page becomes lines, lines become one answer."""

from __future__ import annotations

import asyncio
import base64

import pytest
from PIL import Image

from runtime.declaration.config_file import read
from runtime.declaration.function_spec import FunctionSpec
from runtime.declaration.split_stages import expand
from runtime.errors import RequestError
from runtime.execution.function import Function
from runtime.graph.resolve import link_callees
from runtime.settings import Settings
from tests.apps.pictures import encoded, written
from tests.apps.test_company import answers
from tests.apps.test_ocr import INVOICE, PAGE

pytestmark = [pytest.mark.models, pytest.mark.slow]

BLANK = encoded(Image.new("RGB", (64, 64), "white"))


def texts(answer):
    return [line["text"] for line in answer["lines"]]


@pytest.mark.full
def test_pages_of_one_call_keep_their_lines(models):
    """A page without lines, one with four, in the wire's form of bytes, one that is none at all:
    each row its own answer or error.
    """
    invoice = base64.b64encode(encoded(written(INVOICE))).decode()
    rows = [BLANK, invoice, b"no picture"]
    [[blank, invoice, refused]] = answers("ocr", [[{"image": row} for row in rows]])
    assert blank == {"lines": []}
    assert texts(invoice) == INVOICE
    assert isinstance(refused, RequestError)
    assert refused.where == "image"


def test_a_page_does_not_depend_on_its_batch_mates(models):
    """Pages of other sizes and lines of other lengths, and the same page twice: the same words, as
    sure, at the same places.
    """
    pages = [
        (models / "ocr" / "sample.png").read_bytes(),
        encoded(written(["short", "a line that is a good deal longer"])),
        BLANK,
    ]
    rows = [{"image": page} for page in pages]
    together, *alone = answers("ocr", [[*rows, rows[1]], *([row] for row in rows)])
    assert [len(answer["lines"]) for answer in together] == [7, 2, 0, 2]
    assert texts(together[0]) == PAGE
    assert all(line["confidence"] > 0.95 for line in together[0]["lines"])
    for mixed, (single,) in zip(together, (*alone, alone[1]), strict=True):
        for line, same in zip(mixed["lines"], single["lines"], strict=True):
            # it is rounded to 1e-4
            assert line == {**same, "confidence": pytest.approx(same["confidence"], abs=2e-4)}


# serving/test_split_stages.py: a split function answers as a fused one; services/test_shipped_functions.py:
# so does this one on Ray
@pytest.mark.full
def test_split_off_the_recogniser_reads_the_same(models, root):
    """The declared parts as functions that call each other, and the whole in one process: equal
    within what batch-mates may move.
    """
    settings = Settings.read({"WAKEFUL_ROOT": str(root)})
    whole = next(spec for spec in read(root / "serve_config.yaml").functions if spec.name == "ocr")
    parts, faults = link_callees(expand([whole]), settings)
    assert not faults
    assert [(spec.name, spec.autoscaling.max_replicas) for spec in parts] == [
        ("ocr.recognise", 2),
        ("ocr", 2),
    ]
    page = {"image": (models / "ocr" / "sample.png").read_bytes()}

    async def answer(spec):
        function = await Function.load(spec, settings)
        try:
            return (await function.call_row(page))[0]["lines"]
        finally:
            await function.close(10)

    one, two = asyncio.run(answer(FunctionSpec.of(whole))), asyncio.run(answer(parts[-1]))
    assert [line["text"] for line in one] == PAGE
    for line, same in zip(one, two, strict=True):
        # it is rounded to 1e-4
        assert line == {**same, "confidence": pytest.approx(same["confidence"], abs=2e-4)}
