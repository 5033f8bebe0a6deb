"""Every setting of a function with its origin: the line of the file that has it, or the default.

Where what shows them does not have the file (the catalogue of a cluster), it has the origins of
those that the file has, and the declaration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypedDict

from pydantic import BaseModel

from runtime.types.example_files import FILE_TAG, replace_files

if TYPE_CHECKING:
    from runtime.declaration.function_spec import FunctionSpec
    from runtime.graph.resolve import ResolvedConfig

DEFAULT: Final = "default"

HIDDEN: Final = ("graph", "model", "quantize", "name", "route_prefix", "description", "deployed")
"""Of a declaration, what is shown elsewhere, or what is not in the file: the graph is what a model
by name came to.
"""


class ShownSetting(TypedDict):
    """A setting; ``origin``: ``FILE:LINE``, or ``default``."""

    key: str
    value: Any
    origin: str


def find_origins(spec: FunctionSpec, config: ResolvedConfig) -> dict[str, str]:
    """Return where each setting of a function comes from that the file has. The resources and the
    autoscaling of a split stage are in its ``deployment``, without a section; its other values are
    its function's.
    """
    file, args_key = config.file, f"{config.key_of(spec.name)}.args"
    own = ""
    if spec.name in config.parents:
        own = f"{file.stage_key(*config.parents[spec.name])}.deployment"
    origins = {}
    for name in _shown_fields(spec):
        value = getattr(spec, name)
        if isinstance(value, BaseModel):
            is_own = own and name in ("resources", "autoscaling")
            within = f"{own}." if is_own else f"{args_key}.{name}."
            for key in type(value).model_fields:
                if key in value.model_fields_set:
                    origins[f"{name}.{key}"] = _in_file(config, within + key)
        elif name in spec.model_fields_set and not own:
            origins[name] = _in_file(config, f"{args_key}.{name}")
    return origins


def _in_file(config: ResolvedConfig, key: str) -> str:
    return "{}:{}".format(*config.file.locate(key))


def list_settings(spec: FunctionSpec, origins: Mapping[str, str]) -> Iterator[ShownSetting]:
    """Every value of a declaration but for its graph.

    Args:
        origins: as of ``find_origins``.
    """
    for name in _shown_fields(spec):
        value = getattr(spec, name)
        if isinstance(value, BaseModel):
            for key, part in value:
                full = f"{name}.{key}"
                yield {"key": full, "value": part, "origin": origins.get(full, DEFAULT)}
            continue
        shown = replace_files(value, lambda _, path: f"{FILE_TAG} {path}")
        yield {"key": name, "value": shown, "origin": origins.get(name, DEFAULT)}


def _shown_fields(spec: FunctionSpec) -> list[str]:
    return [name for name in type(spec).model_fields if name not in HIDDEN]
