"""The secret of a cluster, as each of its processes finds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.ray_support import secret_store
from deployments.ray_support.secret_store import secret_of_token
from runtime.system.secrets import derive_secret


@pytest.mark.parametrize(
    ("environ", "token"),
    [
        ({}, ""),
        ({"RAY_AUTH_TOKEN": "t"}, ""),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "t"}, "t"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "{folder}/token"}, "file"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "{folder}/none"}, ""),
        ({"RAY_AUTH_MODE": "token"}, "home"),
    ],
)
def test_it_comes_of_the_token_that_ray_asks_for(tmp_path, monkeypatch, environ, token):
    """As Ray finds it; and it does not tell the token, nor a part of it."""
    (tmp_path / "token").write_text("file\n")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("home")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    found = secret_of_token({key: value.format(folder=tmp_path) for key, value in environ.items()})
    assert found == (derive_secret(token) if token else "")
    assert len(found) in (0, 64)


def test_without_a_token_all_processes_have_the_one_that_was_drawn_first(monkeypatch):
    """Kept by Ray's head."""
    kept: dict[str, str] = {}

    class Store:
        put_first = staticmethod(kept.setdefault)
        get = staticmethod(kept.get)

    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setattr("deployments.ray_support.ray_internals.HeadStore", Store)
    assert (
        secret_store.agree_on_secret()
        == secret_store.agree_on_secret()
        == kept[secret_store.CALL_KEY]
    )
    assert len(kept[secret_store.CALL_KEY]) == 64
