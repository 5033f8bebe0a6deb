"""A function that stages of another call, as far as the other must know it without the file."""

from __future__ import annotations

from pydantic import Field

from runtime.declaration.declared import Declared, JsonObject


class CalledSpec(Declared):
    """Written by ``wakeful up`` and ``wakeful export`` when they read a file (``runtime/linking``)."""

    route_prefix: str = Field(description="Where it is called.")
    args: JsonObject = Field(description="Its declaration.")
    takes: dict[str, JsonObject] = Field(
        description="Its request fields: `datatype`, `shape`, `container`, and `default` where one has it."
    )
    gives: dict[str, JsonObject] = Field(description="What it answers, likewise.")
