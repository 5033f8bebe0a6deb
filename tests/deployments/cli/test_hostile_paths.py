"""Paths at which nothing can be, wherever a declaration or a command line has one: refused in words
and with their place. The system answers them with an error where a path that leads nowhere is just
not there.
"""

from __future__ import annotations

import json
import os
import string
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.declaration.config_file import read
from runtime.errors import DeclarationError
from runtime.settings import Settings
from runtime.system.files import MAX_NAME_BYTES, MAX_PATH_BYTES, path_fault, resolve_path
from tests.deployments.cli.test_hostile_input import invoke

SHA = "a" * 64
REMOTE = f"sha256: {SHA}, onnx:"
FIELDS = {
    "onnx": ("onnx: ", ".onnx", ""),
    "stage": ("graph: [{stage: s, onnx: ", ".onnx", "}]"),
    "digest": (f"sha256: {SHA}, onnx: ", ".onnx", ""),
    "model": ("task: embedding, model: ", "", ""),
    "quantized": ("task: embedding, quantize: int8, model: ", "", ""),
    "weights": (f"onnx: https://h/a.onnx, sha256: {SHA}, weights: {{", "", f": {SHA}}}"),
    "example": ("graph: [{stage: s, python: 'circle_stage:f'}], example: {x: !file ", "", "}"),
    "cert": ("TLS cert: ", "", ", key: k.pem"),
    "key": ("TLS cert: c.pem, key: ", "", ""),
    "authorities": ("TLS cert: c.pem, key: k.pem, client_ca: ", "", ""),
    "keys": ("AUTH file: ", "", ""),
    "rays_cert": ("RAYS ssl_keyfile: k.pem, ssl_certfile: ", "", ""),
}
"""What stands before a path in a declaration, the path's own end, and what stands behind it."""

REFERENCES = {
    "hub": ("hf:a/b@c/", ".onnx"),
    "wheel": ("pypi:p==1/", ".onnx"),
    "web": ("https://h/", ".onnx"),
    "bucket": ("s3://bucket/", ".onnx"),
}


def declare(field: str, path: str) -> str:
    """A file whose line 3 has the path."""
    start, suffix, end = FIELDS[field]
    value = json.dumps(path + suffix)
    section, _, key = start.partition(" ")
    http = {
        "TLS": f"http: {{tls: {{\n\n{key}{value}{end}}}}}",
        "AUTH": f"http: {{auth: {{\n\n{key}{value}{end}}}}}",
        "RAYS": f"http_options: {{\n\n{key}{value}{end}}}",
    }
    if section in http:
        return f"{http[section]}\napplications: [{{name: f, args: {{onnx: a.onnx}}}}]"
    return f"applications:\n- name: f\n  args: {{{start}{value}{end}}}"


def impossible() -> st.SearchStrategy[str]:
    """Paths that no file system has: a part, or all of it, is too long, or has a null character."""
    part = st.text(string.ascii_lowercase + "é日", min_size=1, max_size=9)
    long = st.builds(
        lambda one, size: (one * size)[:size], part, st.integers(MAX_NAME_BYTES + 1, 4000)
    )
    deep = st.builds(
        lambda one, size: "/".join([one] * size), part, st.integers(MAX_PATH_BYTES, 5000)
    )
    null = st.builds(lambda one, two: f"{one}\0{two}", part, part)
    return st.one_of(long, deep, null, st.builds("{}/{}".format, part, long))


@pytest.mark.parametrize("field", FIELDS)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(path=impossible())
def test_a_path_that_no_disk_has_is_refused_with_its_line(
    field: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short enough to be read, whatever its length."""
    monkeypatch.chdir(tmp_path)
    Path("f.yaml").write_text(declare(field, path))
    with pytest.raises(DeclarationError) as caught:
        read("f.yaml")
    assert {problem.line for problem in caught.value.problems} == {3}
    result = invoke("check", "f.yaml")
    assert result.exit_code == 2
    assert all(line.startswith("f.yaml:3: ") for line in result.output.splitlines())
    assert len(result.output) < 1000


@pytest.mark.parametrize("field", ["onnx", "stage", "digest", "example", "cert", "rays_cert"])
def test_links_that_lead_in_a_circle_are_refused_with_their_line(
    field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of which Python says something else in each release."""
    monkeypatch.chdir(tmp_path)
    for name in ("circle", "circle.onnx"):
        Path(name).symlink_to(name)
    Path("circle_stage.py").write_text("def f(x: str) -> str:\n    return x\n")
    for path in ("circle", "circle/a"):
        Path("f.yaml").write_text(declare(field, path))
        result = invoke("check", "f.yaml")
        assert result.exit_code == 2
        assert "f.yaml:3: " in result.output
        assert "symbolic links" in result.output


@pytest.mark.parametrize("kind", REFERENCES)
def test_the_name_of_a_file_that_is_fetched_is_one_on_disk(kind: str, tmp_path: Path) -> None:
    """The folders before it are not: a store's key may have any; a name of all its letters is taken
    to the byte.
    """
    start, suffix = REFERENCES[kind]
    file = tmp_path / "f.yaml"
    longest = "a" * (MAX_NAME_BYTES - len(suffix))
    for path, is_taken in (
        (longest, True),
        (f"{'b' * 500}/{longest}", True),
        (f"{longest}a", False),
        (f"{'b/' * 1020}{longest}", False),
    ):
        file.write_text(f"applications:\n- name: f\n  args: {{{REMOTE} '{start}{path}{suffix}'}}")
        if is_taken:
            assert read(file).functions
            continue
        with pytest.raises(DeclarationError) as caught:
            read(file)
        assert [problem.line for problem in caught.value.problems] == [3]


@pytest.mark.parametrize("module", ["m" * 253, "p" * 300 + ".m", ".".join(["pack"] * 250)])
def test_a_module_that_no_file_has_is_refused_with_its_line(module: str, tmp_path: Path) -> None:
    """Nothing looks for it."""
    file = tmp_path / "f.yaml"
    file.write_text(
        f"applications:\n- name: f\n  args: {{graph: [{{stage: s, python: {module}:f}}]}}"
    )
    with pytest.raises(DeclarationError) as caught:
        read(file)
    assert [problem.line for problem in caught.value.problems] == [3]


def test_a_folder_of_modules_that_cannot_be_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Python does, where a module is missing and the folders that were searched are named."""
    monkeypatch.chdir(tmp_path)
    Path("circle").symlink_to("circle")
    monkeypatch.setattr(sys, "path", [*sys.path, "a" * 300, str(tmp_path / "circle")])
    Path("f.yaml").write_text(
        "applications:\n- name: f\n  args: {graph: [{stage: s, python: nowhere_to_be_found:f}]}"
    )
    result = invoke("check", "f.yaml")
    assert result.exit_code == 2
    assert "f.yaml:3: " in result.output
    assert str(tmp_path) in result.output


@pytest.mark.parametrize(
    "command",
    [
        ("check",),
        ("explain",),
        ("run",),
        ("up",),
        ("profile",),
        ("models", "pull", "--file"),
        ("models", "pull", "--lock"),
    ],
)
def test_a_file_of_the_command_line_that_cannot_be_is_refused(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By exit status 2, with its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("circle").symlink_to("circle")
    for path in ("a" * 300, "a/" * 3000, "circle/f.yaml"):
        result = invoke(*command, path)
        assert result.exit_code == 2, result.output
        assert path[:7] in result.output


def test_a_repository_that_cannot_be_is_refused() -> None:
    """As a file is; what does not lie here may be a model of a hub."""
    assert invoke("add", "a" * 300).exit_code == 2


BOUND_BY_RIGHTS = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
"""Before a command that root runs: files may be closed to it, as to another user."""


@pytest.mark.slow
@pytest.mark.parametrize("path", ["closed/model.onnx", "models"])
def test_what_this_user_may_not_read_is_refused(tmp_path: Path, path: str) -> None:
    """A model, and one of a repository."""
    (tmp_path / "closed").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m").symlink_to(tmp_path / "closed")
    (tmp_path / "closed").chmod(0o000)
    command = [Path(sys.executable).with_name("wakeful"), "add", tmp_path / path]
    bounds = [] if os.geteuid() else BOUND_BY_RIGHTS
    added = subprocess.run([*bounds, *command], capture_output=True, text=True, check=False)
    assert (added.returncode, added.stderr.count("\n")) == (1, 1), added.stderr
    assert added.stderr.endswith(": Permission denied.\n")


def test_a_declaration_with_a_null_character_in_its_name_is_refused() -> None:
    """Which a program can give, and no command line."""
    with pytest.raises(DeclarationError, match="null character"):
        read("a\0b.yaml")


def test_a_root_that_cannot_be_is_refused() -> None:
    """As one that is not there."""
    with pytest.raises(DeclarationError, match="WAKEFUL_ROOT"):
        Settings.read({"WAKEFUL_ROOT": "a" * 300})


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("a" * 255, True),
        ("a" * 256, False),
        ("é" * 127, True),
        ("é" * 128, False),
        ("/".join(["a" * 255] * 4), True),
        ("/".join(["a" * 255] * 4) + "/b", False),
        ("a\udc80", True),
        ("a\0", False),
    ],
)
def test_what_no_path_is(path: str, is_one: bool) -> None:
    """At each bound, and beside it: in bytes, as the disk counts."""
    assert bool(path_fault(path)) is not is_one


def test_where_a_path_leads(tmp_path: Path) -> None:
    """Through links, to what is there and what is not; a circle is an ``OSError``."""
    (tmp_path / "link").symlink_to("gone")
    (tmp_path / "circle").symlink_to("circle")
    assert resolve_path(tmp_path / "link") == tmp_path / "gone"
    with pytest.raises(OSError, match="symbolic links"):
        resolve_path(tmp_path / "circle")
