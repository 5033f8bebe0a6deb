"""What `wakeful run --reload` takes of an edit of `http`, and what it says of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.cli.operations.run_edits import take_keys, untaken_changes
from runtime.declaration import config_file
from runtime.declaration.access.key_file import write_keys
from runtime.declaration.access.keys import AccessKey, KeyDigest
from runtime.declaration.config_file import ConfigFile
from runtime.errors import DeclarationError
from runtime.settings import Settings
from tests.problems import expect_values

FUNCTION = 'applications: [{name: f, args: {graph: [{stage: s, python: "m:f"}]}}]\n'

A, B = "a" * 64, "b" * 64

TLS = "http: {tls: {cert: c.pem, key: k.pem}}\n"
AUTH = "http: {auth: {file: keys.json}}\n"
KEYED = "http: {auth: {keys: [{name: k, sha256: %s}], file: keys.json}}\n"


def declared(folder: Path, text: str) -> ConfigFile:
    """The file with this text before its functions."""
    file = folder / "serve_config.yaml"
    file.write_text(text + FUNCTION)
    return config_file.read(file)


@pytest.mark.parametrize(
    ("started", "edited", "asks_for_keys", "named"),
    [
        ("", "", False, []),
        ("", "http: {cors: {origins: ['*']}, connections_per_address: 7}\n", False, []),
        ("", "http_options: {port: 9000}\n", False, ["http_options"]),
        ("", TLS, False, ["http.tls"]),
        (TLS, TLS, False, []),
        (TLS, TLS.replace("c.pem", "d.pem"), False, ["http.tls"]),
        (TLS, "", False, ["http.tls"]),
        ("", AUTH, False, ["http.auth"]),
        ("", AUTH, True, []),  # other machines reach it
        (AUTH, KEYED % A, True, []),
        (KEYED % A, KEYED % B, True, []),
        (AUTH, "", True, ["http.auth"]),
        (AUTH, "http_options: {port: 9000}\n", True, ["http_options", "http.auth"]),
    ],
)
def test_what_waits_for_another_start_is_said(
    tmp_path: Path, started: str, edited: str, asks_for_keys: bool, named: list[str]
):
    """And nothing else."""
    before, after = (declared(tmp_path, text) for text in (started, edited))
    said = list(untaken_changes(before, after, asks_for_keys=asks_for_keys))
    assert [sentence.split(" ")[0] for sentence in said] == named
    assert all("start the run anew" in sentence for sentence in said)


@pytest.mark.parametrize(
    ("edited", "asks_for_keys", "taken"),
    [
        (KEYED % B, True, [B]),
        (KEYED % B, False, None),
        (AUTH, True, []),
        ("", True, None),
    ],
)
def test_keys_of_an_edit_are_taken_where_the_run_asks_for_keys(
    tmp_path: Path, edited: str, asks_for_keys: bool, taken: list[str] | None
):
    """Where it does not, or the edit would open it, those before hold."""
    before, after = declared(tmp_path, KEYED % A), declared(tmp_path, edited)
    settings = Settings.read({}, file=after.path)
    table = take_keys(before, after, settings, asks_for_keys=asks_for_keys, say=lambda text: None)
    assert (
        None if table is None else [one.sha256 for key in table.declared for one in key.digests]
    ) == taken


def test_a_key_that_is_declared_and_added_is_refused(tmp_path: Path):
    """Before the version serves, as at a start."""
    edited = declared(tmp_path, KEYED % A)
    write_keys(tmp_path / "keys.json", [AccessKey("k", (KeyDigest(B),))])
    settings = Settings.read({}, file=edited.path)
    with pytest.raises(DeclarationError) as refused:
        take_keys(edited, edited, settings, asks_for_keys=True, say=lambda text: None)
    expect_values(refused.value, "k")
