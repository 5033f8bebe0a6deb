"""What every declared model has in common: strict, frozen, and finite plain data where it is free in form."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, PlainValidator

from runtime.declaration.complaints import refusal
from runtime.wording import unwanted


class Declared(BaseModel):
    """A part of a declaration. Unknown keys are refused, no value is converted, and a key has one spelling in a file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_by_alias=True, validate_by_name=True)


def _check_json(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise refusal("only what JSON can say stands here: mappings, lists, text, finite numbers, true, false and null.") from error
    return value


def _check_number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refusal(unwanted(value, "a number"))
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(_check_json)]
Number = Annotated[int | float, PlainValidator(_check_number)]
