"""What photographs show: the stages, and the network behind them."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image

from apps.classify import Name, photo
from runtime.graph.python_stages import signature
from tests.apps.pictures import encoded


def test_the_middle_of_a_picture_is_looked_at():
    """Seven eighths of the shorter side, whatever the longer one shows."""
    picture = Image.new("RGB", (600, 400), "red")
    picture.paste("blue", (125, 25, 475, 375))
    pixels = photo(encoded(picture))
    assert (pixels.shape, pixels.dtype) == ((224, 224, 3), np.uint8)
    assert (pixels == (0, 0, 255)).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (3, 2)])
def test_a_tiny_picture_is_a_picture(size):
    """Enlarged."""
    assert (
        photo(encoded(Image.new("RGB", size, "white"))).tolist()
        == np.full((224, 224, 3), 255).tolist()
    )


def test_the_likeliest_are_named(tmp_path):
    """The first of them first."""
    (tmp_path / "labels.txt").write_text("tench\ngoldfish\ncock\nhen\n")
    name = Name(tmp_path / "labels.txt", top=2)
    assert name(np.array([0.1, 0.2, 0.0, 0.7], np.float32)) == {
        "labels": [{"label": "hen", "score": 0.7}, {"label": "goldfish", "score": 0.2}]
    }


def test_the_schema():
    """Bytes in, pixels for the model."""
    taken = signature.read_signature(photo)
    assert [param.name for param in taken.params] == ["image"]
    assert (taken.gives[""].datatype, taken.gives[""].shape) == ("UINT8", (224, 224, 3))


@pytest.mark.slow
@pytest.mark.models
def test_the_sample_is_a_cat(models):
    """Tiger cat, Egyptian cat, tabby: what the original network says, within a hundredth."""
    session = ort.InferenceSession(
        str(models / "classify" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    sample = (models / "classify" / "sample.png").read_bytes()
    jpeg = BytesIO()
    Image.open(BytesIO(sample)).save(jpeg, "JPEG", quality=95)
    probabilities = session.run(
        None, {"pixels": np.stack([photo(sample), photo(jpeg.getvalue())])}
    )[0]
    name = Name(models / "classify" / "labels.txt")
    labels = {each["label"]: each["score"] for each in name(probabilities[0])["labels"]}
    assert list(labels)[:3] == ["tiger cat", "Egyptian cat", "tabby"]
    assert list(labels.values())[:3] == pytest.approx([0.385, 0.363, 0.167], abs=0.01)
    assert len(labels) == 5
    assert name(probabilities[1])["labels"][0]["label"] in ("tiger cat", "Egyptian cat")
