"""What a cluster gets of a file."""

from __future__ import annotations

from deployments.rollout.prepare import (
    prepare_for_deployment,
    with_callees_digests,
)
from runtime.declaration import config_file
from runtime.declaration.function_spec import CalleeSpec, FunctionSpec, version_hash
from runtime.graph.resolve import ResolvedConfig
from runtime.settings import Settings
from runtime.system.secrets import Secrets

SPLIT = """\
applications:
  - name: f
    args:
      graph:
        - {stage: own, python: "m:Own", with: {key: "${OWN}"}}
        - {stage: part, python: "m:Part", with: {key: "${PART}"}, deployment: {}}
"""


def test_a_split_stage_has_the_marks_of_its_own_secrets(tmp_path):
    """And of no others; nor has its function those of the stage."""
    path = tmp_path / "serve_config.yaml"
    path.write_text(SPLIT)
    settings = Settings(tmp_path, tmp_path, secrets=Secrets({"OWN": "1", "PART": "2", "NONE": "3"}))
    split = ResolvedConfig.split(config_file.read(path))
    part, whole = prepare_for_deployment(split, settings, secret_key=b"key").specs
    assert (part.name, set(part.deployed.secrets)) == ("f.part", {"PART"})
    assert set(whole.deployed.secrets) == {"OWN"}


def function(name: str, made_of: str, *callees: str, at_load: bool = True) -> FunctionSpec:
    """A function that is given others when it is constructed, or with its calls."""
    known = {
        callee: CalleeSpec(
            route_prefix=f"/{callee}", digest="", takes={}, gives={}, at_load=at_load
        )
        for callee in callees
    }
    spec = FunctionSpec.from_args(
        name, f"/{name}", {"graph": [{"stage": "s", "python": f"m:{name}"}]}
    )
    return spec.with_deployed(calls=known, made_of={"code": made_of})


def test_what_is_built_with_a_function_is_of_its_version():
    """An index is another one where the model of its embeddings is, through functions between; a
    function that only calls it stays.
    """

    def versions(code: str) -> dict[str, str]:
        functions = [
            function("search", "a", "index"),
            function("index", "a", "embed"),
            function("embed", code),
            function("calls", "a", "embed", at_load=False),
        ]
        return {spec.name: version_hash(spec) for spec in with_callees_digests(functions)}

    before, after = versions("1"), versions("2")
    assert {name for name in before if before[name] != after[name]} == {
        "search",
        "index",
        "embed",
    }
