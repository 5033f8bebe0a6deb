"""Values that a JSON Schema allows, drawn at random, and others that are nearly such: what OpenAPI
promises is tried on a server with them.
"""

from __future__ import annotations

import base64
import copy
import datetime as dt
import random
from typing import Any, Final

Schema = dict[str, Any]

_LETTERS: Final = ["a", "Z", "0", " ", "é", "日", "𝄞", "\n", '"', "\\", "<"]
_PRINTED: Final = ["a", "Z", "0", " ", "é", "日", '"', "\\"]
_ODD: Final = [None, 1, -1, 1.5, "x", "", True, [], {}, [None], {"a": 1}, 1e308, 2**70, [[[]]]]
_MOST: Final = 3
"""Elements that a list has beyond those that it must have."""


class Drawer:
    """Draws values.

    Args:
        document: what references lead into.
        seed: of the random numbers.
    """

    def __init__(self, document: Schema, seed: int) -> None:
        self._document = document
        self.dice = random.Random(seed)

    def resolve(self, schema: Schema) -> Schema:
        """A schema that is no reference."""
        while "$ref" in schema:
            target: Any = self._document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            schema = {**target, **{key: of for key, of in schema.items() if key != "$ref"}}
        return schema

    def draw(self, schema: Schema, depth: int = 0) -> Any:
        """A value of it; of a number often one of the bounds."""
        schema, dice = self.resolve(schema), self.dice
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return dice.choice(schema["enum"])
        for several in ("anyOf", "oneOf"):
            if several in schema:
                return self.draw(dice.choice(schema[several]), depth)
        kind = schema.get("type", "string")
        kind = dice.choice(kind) if isinstance(kind, list) else kind
        if kind == "null":
            return None
        if kind == "boolean":
            return dice.random() < 0.5
        if kind in ("integer", "number"):
            return self._draw_number(schema, kind)
        if kind == "string":
            return self._draw_text(schema)
        return self._draw_list(schema, depth) if kind == "array" else self._draw_dict(schema, depth)

    def _draw_number(self, schema: Schema, kind: str) -> float:
        step = 1 if kind == "integer" else 1e-9
        lowest = schema.get("minimum", schema.get("exclusiveMinimum", -1e308 - step) + step)
        highest = schema.get("maximum", schema.get("exclusiveMaximum", 1e308 + step) - step)
        within = self.dice.randint if kind == "integer" else self.dice.uniform
        middle = within(lowest / 2, highest / 2) if kind == "number" else within(lowest, highest)
        return self.dice.choice([lowest, highest, middle, min(max(0, lowest), highest)])

    def _draw_text(self, schema: Schema) -> str:
        dice = self.dice
        if schema.get("contentEncoding") == "base64":
            return base64.b64encode(dice.randbytes(dice.randrange(9))).decode()
        if schema.get("format") == "date":
            return dt.date(dice.randint(1, 9999), dice.randint(1, 12), 28).isoformat()
        lowest = schema.get("minLength", 0)
        letters = _PRINTED if "pattern" in schema else _LETTERS
        return "".join(dice.choices(letters, k=dice.randint(lowest, lowest + 6)))

    def _draw_list(self, schema: Schema, depth: int) -> list[Any]:
        if "prefixItems" in schema:
            return [self.draw(one, depth + 1) for one in schema["prefixItems"]]
        lowest = schema.get("minItems", 0)
        most = lowest if depth > 6 else min(schema.get("maxItems", lowest + _MOST), lowest + _MOST)
        count = self.dice.randint(lowest, most)
        found = [self.draw(schema.get("items", {}), depth + 1) for _ in range(count)]
        return list(dict.fromkeys(found)) if schema.get("uniqueItems") else found

    def _draw_dict(self, schema: Schema, depth: int) -> dict[str, Any]:
        found = {}
        for name, of in schema.get("properties", {}).items():
            if name in schema.get("required", ()) or self.dice.random() < 0.5:
                found[name] = self.draw(of, depth + 1)
        more = schema.get("additionalProperties")
        if isinstance(more, dict):
            found |= {
                key: self.draw(more, depth + 1) for key in ("a", "b")[: self.dice.randint(0, 2)]
            }
        return found

    def spoil(self, value: Any) -> Any:
        """The value with one thing in it that is another, is missing, or is too much."""
        spoilt, dice = copy.deepcopy(value), self.dice
        within, key, node = None, None, spoilt
        while isinstance(node, dict | list) and node and (within is None or dice.random() < 0.7):
            key = dice.choice(list(node)) if isinstance(node, dict) else dice.randrange(len(node))
            within, node = node, node[key]
        odd = dice.choice(_ODD)
        if within is None:
            return odd
        how = dice.random()
        if isinstance(within, dict) and how < 0.2:
            del within[key]
        elif isinstance(within, dict) and how < 0.4:
            within["another"] = odd
        elif isinstance(node, int | float) and not isinstance(node, bool) and how < 0.7:
            within[key] = node * 3 + dice.choice([-1, 1])
        else:
            within[key] = odd
        return spoilt
