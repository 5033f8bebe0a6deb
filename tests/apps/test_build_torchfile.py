"""Checkpoints read without torch: the tensors, and nothing else that a pickle may load."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from apps.build.torchfile import MAGIC, VERSION, read


def text(value):
    data = value.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def number(value):
    return b"J" + value.to_bytes(4, "little", signed=True)


def tensor(key, kind, count, *, offset=0, shape=(), strides=()):
    """One tensor as torch pickles it: a storage by its key, and a view of it."""
    storage = (
        b"("
        + text("storage")
        + b"ctorch\n"
        + kind
        + b"\n"
        + text(key)
        + text("cpu")
        + number(count)
        + b"NtQ"
    )
    dims = b"".join(b"(" + b"".join(map(number, each)) + b"t" for each in (shape, strides))
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + number(offset)
        + dims
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )


def checkpoint(path, tensors, storages):
    """A file as torch wrote it before 1.6.

    Args:
        tensors: name to its pickle, as ``tensor`` writes it.
        storages: key to array.
    """
    weights = b"\x80\x02}(" + b"".join(text(name) + each for name, each in tensors.items()) + b"u."
    keys = [pickle.dumps(each, 2) for each in (MAGIC, VERSION, {"little_endian": True})]
    numbers = b"".join(
        len(each).to_bytes(8, "little") + each.tobytes() for each in storages.values()
    )
    path.write_bytes(b"".join(keys) + weights + pickle.dumps(list(storages), 2) + numbers)
    return path


SIX = np.arange(6, dtype=np.float32)


def test_tensors_are_views_of_storages(tmp_path):
    """Two of one storage, one of them transposed, one scalar of another type."""
    path = checkpoint(
        tmp_path / "weights.pth",
        {
            "whole": tensor("a", b"FloatStorage", 6, shape=(2, 3), strides=(3, 1)),
            "turned": tensor("a", b"FloatStorage", 6, offset=1, shape=(2, 2), strides=(1, 3)),
            "count": tensor("b", b"LongStorage", 1),
        },
        {"a": SIX, "b": np.array([7], np.int64)},
    )
    found = read(path)
    assert found["whole"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["turned"].tolist() == [[1, 4], [2, 5]]
    assert (found["count"].dtype, found["count"].item()) == (np.int64, 7)
    assert all(each.flags.writeable for each in found.values())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a function", b"cos\nsystem\n(" + text("true") + b"tR"),
        ("a builtin", b"cbuiltins\neval\n(" + text("1") + b"tR"),
        ("another of torch", b"ctorch\nload\n(" + text("x") + b"tR"),
        ("a dotted way out", b"ccollections\nabc\n"),
    ],
)
def test_what_else_it_would_load_is_refused(tmp_path, name, value):
    """By name, and nothing of it runs."""
    path = checkpoint(tmp_path / "weights.pth", {"w": value}, {})
    with pytest.raises(ValueError, match=r"weights\.pth: .*\b\w+\.\w+\b.*nothing of it was run"):
        read(path)


@pytest.mark.parametrize(
    "view",
    [
        {"shape": (2, 4), "strides": (4, 1)},
        {"offset": 6},
        {"offset": -1},
        {"shape": (2,), "strides": (-1,)},
        {"shape": (-1,), "strides": (1,)},
    ],
)
def test_a_view_beyond_its_storage_is_refused(tmp_path, view):
    """No memory is read that the file did not bring."""
    path = checkpoint(
        tmp_path / "weights.pth", {"w": tensor("a", b"FloatStorage", 6, **view)}, {"a": SIX}
    )
    with pytest.raises(ValueError, match=r"storage of 6\b"):
        read(path)


def test_a_cut_file_is_refused(tmp_path):
    """Wherever it ends."""
    path = checkpoint(
        tmp_path / "weights.pth",
        {"w": tensor("a", b"FloatStorage", 6, shape=(6,), strides=(1,))},
        {"a": SIX},
    )
    whole = path.read_bytes()
    assert read(path)["w"].tolist() == SIX.tolist()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"weights\.pth: "):
            read(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        pickle.dumps(1) + pickle.dumps(2),
        b"\x80\x02}(" + text("w") + number(1) + b"u.",
    ],
)
def test_another_kind_of_file_is_refused(tmp_path, content):
    """A zip, as torch writes since 1.6, and other pickles."""
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"weights\.pth: "):
        read(tmp_path / "weights.pth")
