"""Functions that call others, as they are linked, without stages that could be imported."""

from __future__ import annotations

from typing import Any

from runtime.declaration.function_spec import CalleeSpec, FunctionSpec


def calling(*callees: FunctionSpec, name: str = "f", **args: Any) -> FunctionSpec:
    """A function of one model, which knows others."""
    spec = FunctionSpec.from_args(name, f"/v2/models/{name}", {"onnx": "m.onnx", **args})
    calls, declarations = {}, {}
    for callee in callees:
        digest, declaration = callee.declaration
        known = CalleeSpec(route_prefix=callee.route_prefix, digest=digest, takes={}, gives={})
        calls[callee.name] = known
        declarations |= {digest: declaration, **callee.deployed.declarations}
    return spec.with_deployed(calls=calls, declarations=declarations)
