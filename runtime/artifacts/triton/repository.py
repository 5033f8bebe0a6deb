"""A folder of Triton's models: what is in it, and the functions that it comes to.

REPOSITORY/NAME/config.pbtxt        may be left out beside an ONNX model
REPOSITORY/NAME/VERSION/model.onnx  or the name that the configuration has; a folder of that name
                                    holds a model with its weights beside it
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from runtime.artifacts.triton.model_config import read_model_config
from runtime.artifacts.triton.translation import (
    ONNX_FILE,
    Args,
    Translation,
    backend_of,
    choose_version,
    translate_ensemble,
    translate_model,
)
from runtime.declaration.constrained_types import is_name
from runtime.errors import LoadError, StoreError
from runtime.onnx.model_info import inspect_model
from runtime.system.files import path_fault, resolve_path

CONFIG: Final = "config.pbtxt"

MOST_MODELS: Final = 1000


@dataclass(frozen=True, slots=True)
class TritonModel:
    """A model of the repository.

    Attributes:
        files: the ONNX file, where it is one that is served.
        found: what becomes of it.
    """

    name: str
    files: tuple[Path, ...]
    found: Translation


def is_model_repository(folder: Path) -> bool:
    """Whether there are Triton's models in a folder."""
    return any(map(_is_model, _folders(folder)))


def translate_repository(folder: Path, root: Path, taken: Collection[str]) -> list[TritonModel]:
    """The models of a repository, by name.

    Args:
        root: where the paths of the declaration start; the repository lies in it.
        taken: names of functions that there are, of which none is declared again.

    Raises:
        StoreError: the repository lies elsewhere, or has more models than are read.
    """
    if not folder.resolve().is_relative_to(root.resolve()):
        raise StoreError(
            f"{folder} lies outside of {root}, where models are looked for. Move it there, or link"
            " a copy of it."
        )
    folders = [one for one in _folders(folder) if _is_model(one)]
    if len(folders) > MOST_MODELS:
        raise StoreError(f"{folder} has {len(folders)} models; {MOST_MODELS} are read at most.")
    configs: dict[str, dict[str, Any]] = {}
    found: dict[str, TritonModel] = {}
    for one in folders:
        try:
            path = one / CONFIG
            configs[one.name] = read_model_config(path) if path.is_file() else {}
        except StoreError as error:
            found[one.name] = TritonModel(one.name, (), Translation(refusal=str(error)))
    share = _gpu_share(configs.values())
    stages: dict[str, Args] = {}
    for name, config in configs.items():
        if backend_of(config) != "ensemble":
            found[name] = _translate_one(folder / name, config, root, share)
            if not found[name].found.refusal:
                stages[name] = _stage(found[name].found.args)
    refusals = {name: model.found.refusal for name, model in found.items()}
    for name, config in configs.items():
        if backend_of(config) == "ensemble":
            found[name] = TritonModel(name, (), translate_ensemble(config, stages, refusals))
    return [_unless_taken(found[name], taken) for name in sorted(found)]


def _folders(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if one.is_dir() and one.name[:1] != ".")


def _is_model(folder: Path) -> bool:
    return (folder / CONFIG).is_file() or any(
        (folder / str(version) / ONNX_FILE).exists() for version in _versions(folder)
    )


def _versions(folder: Path) -> list[int]:
    names = [one.name for one in folder.iterdir() if one.is_dir()]
    return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))


def _gpu_share(configs: Collection[dict[str, Any]]) -> float:
    """Of a device, so that all models that run on one have room on one: Triton shares it among
    them.
    """
    on_gpu = sum(
        any(group.get("kind") == "KIND_GPU" for group in config.get("instance_group", ()))
        for config in configs
    )
    return max(1, 100 // max(1, on_gpu)) / 100 if on_gpu > 1 else 1


def _translate_one(
    folder: Path, config: dict[str, Any], root: Path, gpu_share: float
) -> TritonModel:
    name, versions = folder.name, _versions(folder)
    backend = backend_of(config) or "onnxruntime"
    if backend != "onnxruntime":
        return _refused(name, f"its backend is {backend}; ONNX Runtime runs models here")
    version = choose_version(config, versions)
    if version is None:
        return _refused(name, "no folder of the version that its policy wants")
    file = config.get("default_model_filename", ONNX_FILE)
    if fault := path_fault(file):
        return _refused(name, f"its default_model_filename {fault}")
    path = folder / str(version) / file
    try:
        if path.is_dir():  # with its weights beside it
            path = path / ONNX_FILE
        place = resolve_path(path)
        if not place.is_relative_to(root.resolve()) or ".." in path.parts:
            return _refused(name, f"{path} leads out of the repository")
        if not place.is_file():
            return _refused(name, f"{path.relative_to(folder)} is not there")
        if path.suffix != ".onnx":
            return _refused(name, f"{path.name} does not end with .onnx; call it {ONNX_FILE}")
        info = inspect_model(path)
    except LoadError as error:
        return _refused(name, str(error))
    except OSError as error:
        return _refused(name, f"{path} cannot be read: {error.strerror}")
    relative = place.relative_to(root.resolve()).as_posix()
    found = translate_model(config, relative, info, gpu_share=gpu_share)
    if others := [str(one) for one in versions if one != version]:
        found.left.insert(0, f"versions {', '.join(others)} (one is served: {version})")
    return TritonModel(name, () if found.refusal else (path,), found)


def _refused(name: str, why: str) -> TritonModel:
    return TritonModel(name, (), Translation(refusal=why))


def _stage(args: Args) -> Args:
    stage = args["graph"][0] if "graph" in args else {"stage": "model", "onnx": args["onnx"]}
    return dict(stage)


def _unless_taken(model: TritonModel, taken: Collection[str]) -> TritonModel:
    if model.found.refusal:
        return model
    if model.name in taken:
        return _refused(model.name, "the file has a function of that name")
    if not is_name(model.name):
        return _refused(model.name, "that is no name here: letters, digits, '.', '_' and '-'")
    return model
