"""YAML as PyYAML reads it that was told of the one tag of ours."""

from __future__ import annotations

from typing import Any

import yaml

from runtime.types.example_files import FILE_TAG


class Loader(yaml.SafeLoader):
    """Takes a file in an example for what it is short for."""


Loader.add_constructor(FILE_TAG, lambda loader, node: {FILE_TAG: node.value})


def safe_load(text: str) -> Any:
    """As of ``yaml``."""
    return yaml.load(text, Loader)
