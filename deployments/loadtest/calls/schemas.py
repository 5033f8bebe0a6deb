"""Values against the JSON Schemas of a signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

Validate = Callable[[Any], str]
"""What is wrong with a value, and where in it; empty: nothing."""

LONGEST_FAULT: Final = 200
"""Characters of what is wrong: a message repeats the value."""


def compile_schema(schema: Mapping[str, Any]) -> Validate:
    """What a schema allows; with all that it refers to."""
    import jsonschema_rs  # of the extra [load]

    validator = jsonschema_rs.validator_for(dict(schema))

    def find_fault(value: Any) -> str:
        if validator.is_valid(value):
            return ""
        first = next(iter(validator.iter_errors(value)))
        place = "".join(
            f"[{step}]" if isinstance(step, int) else f".{step}" for step in first.instance_path
        ).removeprefix(".")
        return f"{place}{': ' * bool(place)}{str(first.message)[:LONGEST_FAULT]}"

    return find_fault
