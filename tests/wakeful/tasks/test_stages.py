"""The stages of models by name, called as functions."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from wakeful import RequestError
from wakeful.tasks.embedding import Pool, Pooled, Prompt
from wakeful.tasks.image_classification import MAX_PIXELS, Pixels
from wakeful.tasks.rerank import Score
from wakeful.tasks.text import Tokenize
from wakeful.tasks.text_classification import Classify
from wakeful.tasks.token_classification import Gather

ORIENTATION = 0x0112
"""The tag of EXIF."""

HIDDEN = np.array([[3, 0], [0, 4], [3, -1]], np.float32)


@pytest.mark.parametrize(
    ("mode", "vector"),
    [("mean", [2, 1]), ("max", [3, 4]), ("cls", [3, 0]), ("lasttoken", [3, -1])],
)
def test_pooling(mode, vector):
    """Over the tokens of one text."""
    assert Pool(mode)(HIDDEN, 3) == {"embedding": pytest.approx(vector), "tokens": 3}
    short = Pool(mode, normalize=True)(HIDDEN, 3)["embedding"]
    assert short == pytest.approx(np.array(vector) / np.linalg.norm(vector))


def test_a_vector_of_nothing_stays():
    """No number is divided by 0."""
    assert Pooled(normalize=True)(np.zeros(2, np.float32), 1)["embedding"].tolist() == [0, 0]


def test_prompts():
    """The default, another by name, none, and one that is not there."""
    prompt = Prompt({"query": "q: ", "document": "d: "}, "query")
    assert [prompt("x"), prompt("x", "document"), prompt("x", "")] == ["q: x", "d: x", "x"]
    with pytest.raises(RequestError, match="'query', 'document'"):
        prompt("x", "other")


def test_scores():
    """One number to the score; several to a score a label."""
    assert Score()(np.array([0.0], np.float32), 3) == {"score": 0.5, "tokens": 3}
    assert Score()(np.array([-1000.0], np.float32), 3)["score"] == 0
    assert Score("identity")(np.array([-7.5], np.float32), 3)["score"] == -7.5
    sure = np.array([1000.0, -1000.0], np.float32)  # no power of it is a number
    for scores in ("softmax", "sigmoid"):
        assert Classify(["a", "b"], scores)(sure, 1)["scores"] == {"a": 1.0, "b": 0.0}
    both = np.array([0, np.log(3)], np.float32)
    one_is_right = Classify(["a", "b"])(both, 1)["scores"]
    assert list(one_is_right.items()) == [
        ("b", pytest.approx(0.75)),
        ("a", pytest.approx(0.25)),
    ]
    assert Classify(["a", "b"], "sigmoid")(both, 1)["scores"] == pytest.approx(
        {"a": 0.5, "b": 0.75}
    )


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ("B-PER I-PER O", [("PER", 0, 4)]),
        ("B-PER B-PER O", [("PER", 0, 2), ("PER", 2, 4)]),
        ("I-PER I-LOC O", [("PER", 0, 2), ("LOC", 2, 4)]),
        ("O PER PER", [("PER", 2, 6)]),
        ("O O O", []),
        ("B-A-B I-A-B B", [("A-B", 0, 4), ("B", 4, 6)]),
    ],
)
def test_tokens_become_entities(labels, found):
    """`B-` begins one, and so does another label; special tokens are none."""
    known = ["O", "B-PER", "I-PER", "I-LOC", "PER", "B-A-B", "I-A-B", "B"]
    logits = np.zeros((5, len(known)), np.float32)
    for at, label in enumerate(labels.split(), 1):
        logits[at, known.index(label)] = 20
    logits[[0, 4], 1] = 20  # [CLS] and [SEP]
    spans = np.array([[0, 0], [0, 2], [2, 4], [4, 6], [0, 0]])
    entities = Gather(known)(logits, spans, "abcdef", 5)["entities"]
    assert {(one["label"], one["start"], one["end"]) for one in entities} == set(found)
    assert all(one["text"] == "abcdef"[one["start"] : one["end"]] for one in entities)
    assert all(one["score"] == pytest.approx(1, abs=1e-6) for one in entities)


def picture(width: int, height: int, mode: str = "RGB") -> bytes:
    body = io.BytesIO()
    Image.new(mode, (width, height), 255 if mode == "L" else "white").save(body, "PNG")
    return body.getvalue()


@pytest.mark.parametrize(
    ("resize", "crop", "shape"),
    [
        ([8], None, (3, 8, 16)),
        ([8], [6, 6], (3, 6, 6)),
        ([5, 7], None, (3, 5, 7)),
        (None, [4, 6], (3, 4, 6)),
    ],
)
def test_pictures_get_their_size(resize, crop, shape):
    """White is 1 everywhere."""
    pixels = Pixels(resize, 2, crop)(picture(40, 20))
    assert pixels.shape == shape
    assert pixels == pytest.approx(1)
    assert pixels.dtype == np.float32


def test_a_picture_is_turned_as_its_camera_was():
    """It lay on its side: the first row of what was taken is the last column of what is seen."""
    lying = Image.new("RGB", (4, 2), "black")
    for x in range(4):
        lying.putpixel((x, 0), (255, 255, 255))
    turned = Image.Exif()
    turned[ORIENTATION] = 6
    body = io.BytesIO()
    lying.save(body, "PNG", exif=turned)
    pixels = Pixels()(body.getvalue())
    assert pixels.shape == (3, 4, 2)
    assert pixels[0].tolist() == [[0, 1]] * 4


def test_a_small_picture_has_a_black_margin():
    """Where the crop is larger."""
    pixels = Pixels(None, 2, [4, 4])(picture(2, 2, "L"))
    assert pixels[0].sum() == pytest.approx(4)
    assert pixels[0, 1:3, 1:3] == pytest.approx(1)


def broken_tiff() -> bytes:
    """Whose header Pillow's reader of TIFF breaks at with an error of `struct`."""
    return b"II*\x00\x08\x00\x00\x00" + b"\xff" * 3


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"no picture", "cannot be read"),
        (broken_tiff(), "cannot be read"),
        (picture(40, 20)[:70], "cannot be read"),
        (picture(4, 4, "I;16"), "8 bits a channel"),
        (picture(MAX_PIXELS // 100 + 1, 100, "1"), "at most"),
    ],
)
def test_what_is_no_picture_or_too_large_is_refused(body, said):
    """Before it is decoded, but for what is found out by that."""
    with pytest.raises(RequestError, match=said):
        Pixels()(body)


@pytest.mark.parametrize("size", [(1_000_000, 1), (1, 1_000_000)])
def test_a_line_of_pixels_does_not_become_a_large_picture(size):
    """A million to one would be 256 by 256 million at the model's size, whatever is cut out of it."""
    with pytest.raises(RequestError, match=r"256000000 x 256|256 x 256000000") as refused:
        Pixels([256], 2, [224, 224])(picture(*size, "1"))
    assert refused.value.where == "image"


def test_a_text_without_a_token_is_refused_at_its_field(tmp_path):
    """The mean of no vectors is no number: of a tokenizer that adds no tokens of its own."""
    words = models.WordLevel({"[UNK]": 0, "fox": 1}, unk_token="[UNK]")
    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    tokenize = Tokenize(tmp_path / "tokenizer.json", 8)
    assert tokenize(["fox", "a fox"])["tokens"] == [1, 2]
    for text in ("", " "):
        with pytest.raises(RequestError) as caught:
            tokenize(["fox", text])
        assert caught.value.where == "text"
