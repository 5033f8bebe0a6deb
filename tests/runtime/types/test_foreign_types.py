"""Types of other libraries have a line that says what to take and give instead."""

from __future__ import annotations

import io
from typing import Annotated

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from starlette.datastructures import UploadFile
from starlette.requests import Request

from runtime.types.foreign_types import instead_of


@pytest.mark.parametrize(
    ("annotation", "take"),
    [
        (Image.Image, "Image.open(io.BytesIO(image))"),
        (PngImageFile, "`image: bytes`"),
        (Image.Image | None, "`image: bytes`"),
        (Annotated[Image.Image, "a note"], "`image: bytes`"),
        (list[Image.Image], "`image: bytes`"),
        (Request, 'Header("x-name")'),
        (UploadFile, "-F image=@FILE"),
        (io.BytesIO, "`image: bytes`"),
    ],
)
def test_a_type_that_no_call_can_give_has_one_that_it_can(annotation, take) -> None:
    """Also within another type, and of a class that inherits from it."""
    found = instead_of(annotation)
    assert found is not None
    assert take in found.take.format(name="image")
    assert found.give


@pytest.mark.parametrize("annotation", [int, str | None, dict[str, list[float]], None, "text"])
def test_what_calls_can_give_has_none(annotation) -> None:
    """Plain types."""
    assert instead_of(annotation) is None
