"""A declared function as JSON, which Ray keeps and another version of Wakeful may find."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from deployments.control.declarations import FunctionDeclaration, hash_declarations
from tests.deployments.placement.placing import declaration


@pytest.mark.parametrize(
    "declared",
    [
        declaration(),
        declaration(fixed=True),
        replace(declaration(), memory_bytes=9, part_of="g", also_at=("/a", "/b")),
    ],
)
def test_a_declaration_is_the_same_as_json(declared):
    """With the names of its fields."""
    text = json.dumps(declared.to_dict())
    assert FunctionDeclaration.from_dict(json.loads(text)) == declared


def test_what_most_do_not_have_is_not_written():
    """A file has thousands of functions."""
    assert not {"interface", "also_at"} & declaration().to_dict().keys()


def test_a_declaration_of_another_version_is_read():
    """Ray starts a host again with the configuration of the `wakeful up` before the installation."""
    declared = declaration(fixed=True)
    data = declared.to_dict()
    former = {
        "fixed": data.pop("is_always_own"),
        "identity": data.pop("version"),
        "probed": data.pop("is_probed"),
    }
    assert FunctionDeclaration.from_dict({**data, **former, "of_the_next": 1}) == declared


def test_the_hash_of_a_declaration_changes_with_what_is_declared_alone():
    """Not with what the probe measured; and the order of functions does not count."""
    first, other = declaration(), declaration(description="new")
    assert first.hash == replace(first, memory_bytes=9).hash
    assert first.hash != other.hash
    pair = [first, declaration("g")]
    assert hash_declarations(pair) == hash_declarations(reversed(pair))
    assert hash_declarations(pair) != hash_declarations([other, declaration("g")])
