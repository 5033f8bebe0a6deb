"""A declared function as JSON, which Ray keeps and another version of Wakeful may find."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from typing import Any

import pytest

from deployments.control.declarations import (
    FunctionDeclaration,
    current_args,
    hash_declarations,
    pack_functions,
    unpack_functions,
)
from deployments.control.orders import HostOrders
from runtime.declaration.function_spec import FunctionSpec, version_hash
from tests.deployments.placement.placing import declaration
from tests.runtime.declaration.linked import calling


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


def sent(data: dict[str, Any]) -> dict[str, Any]:
    """As Ray carries it."""
    received: dict[str, Any] = json.loads(json.dumps(data))
    return received


def listed(spec: FunctionSpec) -> FunctionDeclaration:
    """As `up` lists it."""
    return FunctionDeclaration(spec.name, spec.route_prefix, spec.to_args(), False, "1")


def test_a_list_has_each_function_that_is_called_once():
    """Whatever calls it, through others as well. Each function of the list is as before, and so is
    its hash, by which processes compare what they know.
    """
    leaf = calling(name="leaf", description="a text " * 1000)
    middle = calling(leaf, name="middle")
    functions = tuple(
        listed(calling(leaf, middle, name=f"f{number}", **more))
        for number, more in enumerate([{}, {"tier": "own"}] * 50)
    )
    packed = sent(pack_functions(functions))
    assert len(packed["declarations"]) == 2
    assert json.dumps(packed).count(leaf.description) == 1
    assert len(pickle.dumps(HostOrders(declare=unpack_functions(packed)))) < 400_000
    found = unpack_functions(packed)
    assert found == functions
    assert hash_declarations(found) == hash_declarations(functions)
    assert found[0].spec.called("middle").called("leaf") == leaf


def test_of_an_empty_list_nothing_is_missing():
    """As of a host that `serve deploy` deploys, which has none."""
    assert unpack_functions({}) == unpack_functions(pack_functions(())) == ()


def test_a_list_of_the_release_before_is_read():
    """It had whole functions within those that call them, and what commands add among the rest."""
    leaf = calling(name="leaf", tier="own")
    middle = calling(leaf, name="middle").with_deployed(part_of="f")
    top = calling(middle, leaf).with_deployed(made_of={"code": "1"}, secrets={"KEY": "m"})

    def former(spec: FunctionSpec) -> dict[str, Any]:
        args = spec.to_args()
        added = args.pop("deployed")
        del added["declarations"]
        for name, callee in added["calls"].items():
            del callee["digest"]
            callee["args"] = former(spec.called(name))
        return {**args, **added}

    data = sent({**listed(top).to_dict(), "args": former(top)})
    (found,) = unpack_functions([data])
    assert (found.spec.deployed.made_of, found.spec.deployed.secrets) == (
        {"code": "1"},
        {"KEY": "m"},
    )
    assert version_hash(found.spec) == version_hash(top)
    assert found.spec.all_called == top.all_called
    assert found.spec.called("middle").deployed.part_of == "f"
    assert found.spec.called("middle").called("leaf").tier == "own"
    assert current_args(leaf.to_args()) == leaf.to_args()


def test_the_hash_of_a_declaration_changes_with_what_is_declared_alone():
    """Not with what the probe measured; and the order of functions does not count."""
    first, other = declaration(), declaration(description="new")
    assert first.hash == replace(first, memory_bytes=9).hash
    assert first.hash != other.hash
    pair = [first, declaration("g")]
    assert hash_declarations(pair) == hash_declarations(reversed(pair))
    assert hash_declarations(pair) != hash_declarations([other, declaration("g")])
