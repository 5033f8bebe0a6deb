"""The JSON Schema (draft 2020-12) of the file, for editors: made from the models that read it, so
that keys, kinds, bounds and descriptions are theirs.

It says what a key and a value may be. What two keys must not say together, and what a name refers
to, is for ``wakeful check``. Editors that know draft 7 alone read it as well: nothing in it is
newer but the name of ``$defs``.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core.core_schema import WithDefaultSchema

from runtime.declaration.declared_spec import DeclaredSpec, FunctionArgs
from runtime.declaration.editing.whole_form import IMPORT_PATHS
from runtime.declaration.ray_schema import ServeConfig
from runtime.declaration.stage_spec import StageSpec

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


class _ForEditors(GenerateJsonSchema):
    """Without titles of keys, which would say each key again, and without defaults that are
    sections or nothing: an editor that completes a key writes its default down.
    """

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return False: an editor shows the key itself."""
        return False

    def default_schema(self, schema: WithDefaultSchema) -> dict[str, Any]:
        """The schema of what has a default."""
        found = super().default_schema(schema)
        if isinstance(found.get("default"), dict | None):
            found.pop("default", None)
        return found


def file_schema() -> dict[str, Any]:
    """The schema of ``serve_config.yaml``, as plain JSON data."""
    file = ServeConfig.model_json_schema(schema_generator=_ForEditors)
    args = FunctionArgs.model_json_schema(schema_generator=_ForEditors)
    definitions = {**file.pop("$defs"), **args.pop("$defs")}
    definitions["FunctionArgs"] = _as_written(args)
    definitions["StageSpec"]["oneOf"] = [
        {"required": [key]} for key in ("python", "onnx", "function")
    ]
    address = DeclaredSpec.model_json_schema(schema_generator=_ForEditors)["properties"]
    forms = {
        key: {part: address[key][part] for part in ("type", "pattern")}
        for key in ("name", "route_prefix")
    }
    definitions["Application"]["properties"]["import_path"]["pattern"] = "[.:]"
    del definitions["Application"]["required"]  # Ray's: `import_path` may be left out here
    definitions["Application"] |= {
        "allOf": [
            {
                "if": _is_built_by("function"),  # or by nothing, which is the same
                "then": {
                    "properties": {
                        "name": address["name"],
                        "route_prefix": address["route_prefix"],
                        "args": {"$ref": "#/$defs/FunctionArgs"},
                    },
                    "required": ["name", "args"],
                },
            },
            {
                "if": {**_is_built_by("catalogue", "host"), "required": ["import_path"]},
                "then": {
                    "properties": {**forms, "args": {"maxProperties": 0}},
                    "required": ["name"],
                },
            },
        ],
    }
    return {"$schema": DIALECT, **file, "$defs": _reached(file, definitions)}


def _is_built_by(*roles: Any) -> dict[str, Any]:
    return {"properties": {"import_path": {"enum": [IMPORT_PATHS[role] for role in roles]}}}


def _as_written(args: dict[str, Any]) -> dict[str, Any]:
    """The schema of a function's args as a file has them: with the keys of a bare model."""
    stage = StageSpec.model_json_schema(schema_generator=_ForEditors)["properties"]
    written = dict(args["properties"])
    short = {key: stage[key] for key in FunctionArgs.SHORT_KEYS}
    written["graph"] = {**written["graph"], "minItems": 1}
    one_of = [{"required": keys} for keys in (["graph"], ["onnx"], ["model", "task"])]
    return {**args, "properties": {**written, **short}, "oneOf": one_of}


def _reached(schema: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """The definitions that a schema refers to, directly or through others."""
    found: dict[str, Any] = {}
    pending = [schema]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            name = str(part.get("$ref", "")).removeprefix("#/$defs/")
            if name in definitions and name not in found:
                found[name] = definitions[name]
                pending.append(found[name])
        pending += (
            part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        )
    return found
