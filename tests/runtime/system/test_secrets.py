"""Values that a declaration names and does not hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deployments.preflight import load_all_once
from runtime.declaration.config_file import read as read_file
from runtime.declaration.function_spec import FunctionSpec, version_hash
from runtime.errors import DeclarationError, LoadError
from runtime.execution.function import Function
from runtime.graph.assembly import assemble
from runtime.graph.resolve import examine
from runtime.settings import Settings
from runtime.system.secrets import (
    PlaceholderSecrets,
    Secrets,
    digests_of,
    key_digest,
    read_secrets,
    secret_digest,
)
from tests.problems import expect_values, places

SECRET = "s3cr3t/+'x"

CONFIG = """\
applications:
  - name: f
    route_prefix: /v2/models/f
    import_path: deployments:function
    args:
      graph:
        - stage: s
          python: tests.secret_stages:{stage}
          with:
            key: ${{KEY}}
            headers:
              auth: Bearer ${{TOKEN}}
"""


def spec(stage: str = "Keeps", marked: dict[str, str] | None = None) -> FunctionSpec:
    """A function with one secret."""
    args = {
        "graph": [
            {"stage": "s", "python": f"tests.secret_stages:{stage}", "with": {"key": "${KEY}"}}
        ],
        "deployed": {"secrets": marked or {}},
    }
    return FunctionSpec.from_args("f", "/v2/models/f", args)


def settings(tmp_path: Path, **named: str) -> Settings:
    """Of a process with such an environment."""
    return Settings.read({"WAKEFUL_ROOT": str(tmp_path), **named})


@pytest.mark.anyio
async def test_a_stage_is_constructed_with_the_value(tmp_path: Path) -> None:
    """And what is printed of the function has the name."""
    given = settings(tmp_path, KEY=SECRET)
    function = await Function.load(spec(), given)
    try:
        answer, _ = await function.call_row({"text": "a"})
        assert answer == {"s": len(SECRET)}
        text = repr([function, function.spec, function.spec.to_args(), given, given.secrets])
    finally:
        await function.close(1.0)
    assert SECRET not in text
    assert "${KEY}" in text


def test_what_is_missing_is_refused_with_its_line(tmp_path: Path) -> None:
    """Each of them, before anything starts."""
    file = tmp_path / "serve_config.yaml"
    file.write_text(CONFIG.format(stage="Keeps"))
    given = settings(tmp_path, KEY="")
    empty, unset = examine(read_file(file), given).problems
    assert places([empty, unset]) == [
        "10: applications[0].args.graph[0].with.key",
        "12: applications[0].args.graph[0].with.headers.auth",
    ]
    expect_values(empty.message, "${KEY}", "empty", "environment", "`--secrets FILE`")
    expect_values(unset.message, "${TOKEN}", "not set", "environment", "`--secrets FILE`")
    assert examine(read_file(file), settings(tmp_path, KEY="a", TOKEN="b")).problems == ()


@pytest.mark.anyio
async def test_an_error_of_the_constructor_has_the_name(tmp_path: Path) -> None:
    """Though the stage put the value into its message, as it is and in quotes; the cause would
    print it and is left out.
    """
    with pytest.raises(LoadError) as caught:
        await Function.load(spec("Refuses"), settings(tmp_path, KEY=SECRET))
    message = caught.value.message.replace('"', "'")
    expect_values(message, "Refuses", "ValueError: no such key: ${KEY} '${KEY}'")
    assert caught.value.__cause__ is None
    assert SECRET not in str(caught.value)


def test_the_parts_of_a_function_do_not_print_it(tmp_path: Path) -> None:
    """Nor does what a check leaves behind."""
    found = assemble(spec(), settings(tmp_path, KEY=SECRET), lambda path: pytest.fail("no model"))
    assert SECRET not in repr(found)


@pytest.mark.slow
def test_the_probe_knows_it_and_does_not_tell(tmp_path: Path) -> None:
    """Neither through its environment nor in what its process wrote."""
    good, bad = load_all_once(
        [spec(), spec("Refuses")], settings(tmp_path, KEY=SECRET), environment={}
    )
    assert good.error == ""
    assert "${KEY}" in bad.error
    assert SECRET not in bad.error
    assert all(SECRET not in path.read_text() for path in tmp_path.rglob("*.json"))


def test_another_value_is_another_version() -> None:
    """By its mark, which only a holder of the key can make."""
    known = {"KEY": "a"}
    by_name, values = digests_of(known.get, ["KEY", "GONE"], b"key")
    assert by_name == {"KEY": secret_digest(b"key", "KEY", "a")}
    assert values == {by_name["KEY"]: "a"}
    assert by_name["KEY"].startswith(key_digest(b"key"))
    others = [
        secret_digest(b"key", "KEY", "b"),
        secret_digest(b"key", "OTHER", "a"),
        secret_digest(b"other", "KEY", "a"),
    ]
    identities = {
        version_hash(spec(marked={"KEY": one})) for one in [by_name["KEY"], *others, by_name["KEY"]]
    }
    assert len(identities) == 4


def test_a_marked_declaration_takes_the_marked_value_alone() -> None:
    """A version that is gone back to gets its own value again; the environment of the process is
    not requested.
    """
    secrets = Secrets({"KEY": "of the environment"})
    secrets.learn({"m1": "old", "m2": "new"})
    assert [secrets.find("KEY", "m1"), secrets.find("KEY", "m2"), secrets.find("KEY", "m3")] == [
        "old",
        "new",
        None,
    ]
    expect_values(secrets.missing("KEY", "m3"), "`wakeful up`")


def test_a_text_is_shown_with_names() -> None:
    """The longest value first, so that no part of it stays."""
    secrets = Secrets({"A": "key", "B": "key-of-b", "NEVER": "asked"})
    for name in ("A", "B"):
        secrets.find(name)
    assert secrets.hide("asked key-of-b key") == "asked ${B} ${A}"
    assert secrets.given() == {"named": {"A": "key", "B": "key-of-b"}, "marked": {}}


def test_reading_a_declaration_needs_no_value(tmp_path: Path) -> None:
    """A name is its own value."""
    assert PlaceholderSecrets().find("KEY") == "${KEY}"


def test_a_file_goes_before_the_environment(tmp_path: Path) -> None:
    """As dotenv has it: comments, quotes, export; nothing is expanded."""
    file = tmp_path / "secrets.env"
    file.write_text("# mine\nexport A='a b'\nB=\"b\\nb\"\nC=$A # c\n\nD=\n")
    assert read_secrets(file) == {"A": "a b", "B": "b\nb", "C": "$A", "D": ""}
    secrets = Settings.read({"A": "other", "E": "e"}, file).secrets
    assert [secrets.find(name) for name in "ADE"] == ["a b", None, "e"]


def test_a_file_is_read_strictly(tmp_path: Path) -> None:
    """Every wrong line is reported by its number, and no value with it."""
    file = tmp_path / "secrets.env"
    file.write_text("A=1\n\nnothing\nA=2\n1B=3\nC='unended\n")
    with pytest.raises(DeclarationError) as caught:
        read_secrets(file)
    assert [(problem.line, problem.key) for problem in caught.value.problems] == [
        (3, ""),
        (4, "A"),
        (5, ""),
        (6, ""),
    ]
    assert "unended" not in str(caught.value)
    for wrong in (tmp_path / "absent", tmp_path):
        with pytest.raises(DeclarationError, match="cannot be read"):
            read_secrets(wrong)


def test_a_declaration_is_plain_data_without_the_value() -> None:
    """What is sent, hashed and kept."""
    data = json.loads(json.dumps(spec(marked={"KEY": "m"}).to_args()))
    assert data["deployed"]["secrets"] == {"KEY": "m"}
