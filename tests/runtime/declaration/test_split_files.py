"""A file with stages that are split off: what one process serves of it, and what a cluster does."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.declaration.config_file import ConfigFile, read
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import DeclarationError
from runtime.graph.resolve import examine, resolve
from runtime.settings import Settings
from tests.problems import expect_values, place, places

FILE = """\
applications:
  - name: f
    route_prefix: /v2/models/f
    import_path: deployments:function
    args:
      graph:
        - {stage: words, python: "tests.runtime.declaration.test_split_files:words"}
        - stage: count
          python: "tests.runtime.declaration.test_split_files:count"
          each: words
          deployment: {max_replicas: 2}
        - {stage: total, python: "tests.runtime.declaration.test_split_files:total"}
"""

OTHER = """\
  - name: g
    route_prefix: /v2/models/g
    import_path: deployments:function
    args:
      graph: [{stage: count, function: f.count, inputs: {words: word}}]
"""


def words(text: str) -> list[str]:
    """A stage."""
    return text.split()


def count(words: str) -> int:
    """A stage; its parameter is an element."""
    return len(words)


def total(count: list[int]) -> int:
    """A stage."""
    return sum(count)


def opened(text: str) -> set[str]:
    """A stage whose value stays."""
    return set(text)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """No models."""
    return Settings(root=tmp_path, models=tmp_path)


def file_of(tmp_path: Path, text: str) -> ConfigFile:
    path = tmp_path / "serve_config.yaml"
    path.write_text(text)
    return read(path)


def test_a_cluster_has_the_split_stage_as_a_function_that_the_other_calls(
    tmp_path: Path, settings: Settings
) -> None:
    """With the interface of the split stage in the function's declaration."""
    config = resolve(file_of(tmp_path, FILE), settings, split=True)
    part, function = config.functions
    assert (part.name, function.name, function.graph[1].function) == ("f.count", "f", "f.count")
    assert function.deployed.calls["f.count"].takes == {
        "words": {"container": "scalar", "datatype": "text", "shape": []}
    }
    assert (config.parent_of("f.count"), config.parent_of("f")) == ("f", "")
    assert config.key_of("f.count") == "applications[0]"


def test_one_process_fuses_it_and_has_a_split_stage_only_if_others_call_it(
    tmp_path: Path, settings: Settings
) -> None:
    """Declared once, called by two."""
    assert [spec.name for spec in resolve(file_of(tmp_path, FILE), settings).functions] == ["f"]
    shared = resolve(file_of(tmp_path, FILE + OTHER), settings)
    assert [spec.name for spec in shared.functions] == ["f.count", "f", "g"]
    assert list(shared.functions[2].deployed.calls) == ["f.count"]
    both = resolve(file_of(tmp_path, FILE + OTHER), settings, split=True)
    assert [(spec.name, list(spec.deployed.calls)) for spec in both.functions] == [
        ("f.count", []),
        ("f", ["f.count"]),
        ("g", ["f.count"]),
    ]


def test_a_file_without_split_stages_is_the_same_for_both(
    tmp_path: Path, settings: Settings
) -> None:
    """Each function is assembled once, and none is copied."""
    file = file_of(tmp_path, FILE.replace("          deployment: {max_replicas: 2}\n", ""))
    config = resolve(file, settings, split=True)
    assert config.functions[0] == FunctionSpec.of(file.functions[0])
    assert config.assemblies["f"].spec is config.functions[0]
    assert not config.parents


@pytest.mark.parametrize(
    ("text", "where", "values"),
    [
        (
            FILE + OTHER.replace("/g", "/f.count"),
            "8: applications[0].args.graph[1].stage",
            ["'f.count'", "/v2/models/f.count"],
        ),
        (
            FILE.replace("test_split_files:words", "test_split_files:opened").replace(
                "words, python", "words, deployment: {}, python"
            ),
            "7: applications[0].args.graph[0].deployment",
            ["stage 'words'", "what it gives is set"],
        ),
        (
            FILE + OTHER.replace("f.count", "f.cont"),
            "17: applications[1].args.graph[0].function",
            ["'f.cont'", "'f.count'?"],
        ),
        (
            FILE.replace("{max_replicas: 2}", "{batching: {max_batch_size: 1000}}"),
            "11: applications[0].args.graph[1].deployment",
            ["'f.count'", "max_batch_size", "1000"],
        ),
    ],
)
def test_what_cannot_be_split_off_is_a_problem_of_its_stage(
    tmp_path: Path, settings: Settings, text: str, where: str, values: list[str]
) -> None:
    """With its line, found by `check`."""
    problems = examine(file_of(tmp_path, text), settings).problems
    assert where in places(problems)
    expect_values(next(one.message for one in problems if place(one) == where), *values)
    with pytest.raises(DeclarationError):
        resolve(file_of(tmp_path, text), settings)
