"""Weights out of a PyTorch checkpoint, without torch and without running anything that the file
asks for.

Such a file is a pickle, and a pickle may name any function of Python to be called while it is read.
This reader knows four names, those of a dictionary of tensors, gives each a meaning of its own, and
refuses all others. It reads the form that torch wrote before 1.6: three short pickles (a magic
number, a version, sizes of types), the dictionary, the keys of its storages, and these storages one
after the other, each with its length before it.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

MAGIC: Final = 0x1950A86A20F9469CFC6C
VERSION: Final = 1001
_STORAGES: Final = {"FloatStorage": "<f4", "LongStorage": "<i8"}


@dataclass(frozen=True, slots=True)
class _Storage:
    """Numbers that lie further down in the file."""

    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A view of a storage; offset and strides in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, numbers: NDArray[Any]) -> NDArray[Any]:
        last = self.offset + sum(
            (size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True)
        )
        if min(self.offset, *self.strides, *self.shape, 0) < 0 or last >= len(numbers):
            raise ValueError(
                f"a tensor of shape {self.shape} lies outside its storage of {len(numbers)} numbers"
            )
        strides = [stride * numbers.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides).copy()


class _TensorUnpickler(pickle.Unpickler):
    """Makes dictionaries, numbers, strings and the records above; nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _STORAGES:
            return name
        raise pickle.UnpicklingError(
            f"the file asks for {module}.{name}, which no dictionary of weights needs; "
            "nothing of it was run"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage, key, _device, count, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"a storage of unknown kind {kind!r}")
        return _Storage(key, np.dtype(_STORAGES[storage]), count)


def _tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


def read(path: Path) -> dict[str, NDArray[Any]]:
    """Name to array, float32 or int64, of its own memory.

    Raises:
        ValueError: no checkpoint of this form, cut off, or one that asks for more than tensors.
    """
    with path.open("rb") as file:
        try:
            if (_TensorUnpickler(file).load(), _TensorUnpickler(file).load()) != (MAGIC, VERSION):
                raise ValueError("it is no checkpoint that torch wrote before 1.6")
            _TensorUnpickler(file).load()
            tensors: dict[str, _Tensor] = _TensorUnpickler(file).load()
            if not all(isinstance(tensor, _Tensor) for tensor in tensors.values()):
                raise ValueError("it holds more than tensors")
            wanted = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
            numbers = {key: _numbers(file, wanted[key]) for key in _TensorUnpickler(file).load()}
            return {
                name: tensor.of(numbers[tensor.storage.key]) for name, tensor in tensors.items()
            }
        except (
            pickle.UnpicklingError,
            EOFError,
            KeyError,
            AttributeError,
            TypeError,
            ValueError,
        ) as error:
            raise ValueError(f"{path.name}: {error or type(error).__name__}") from error


def _numbers(file: IO[bytes], storage: _Storage) -> NDArray[Any]:
    count = int.from_bytes(file.read(8), "little")
    data = file.read(count * storage.dtype.itemsize)
    if count != storage.count or len(data) < count * storage.dtype.itemsize:
        raise ValueError(
            f"storage {storage.key} holds {count} numbers, {storage.count} are declared; the "
            "file is cut or damaged"
        )
    return np.frombuffer(data, storage.dtype)
