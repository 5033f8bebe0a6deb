"""Secrets on a cluster, in the memory of Ray's head: those that stages name, and the one that calls
between functions carry.

A stage's secret is stored by its mark and fetched by the process that constructs the stage. It is
in no environment, no argument and no configuration, since Ray shows all of these. A client with the
cluster's token can read it, as it can run code in any replica.

The secret of calls between functions (``runtime.http.function_routes``) is derived from the
cluster's token, or drawn at random once for the cluster. A client with the token can run code in
the cluster, so the secret protects against all others; the token cannot be derived from it.
"""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runtime.system.secrets import derive_secret

if TYPE_CHECKING:
    from deployments.ray_support.ray_internals import HeadStore
    from runtime.system.secrets import Secrets

KEY: Final = "wakeful-secret-"

CALL_KEY: Final = "wakeful-internal"
"""The key under which the head of a cluster without a token keeps a random secret."""

EDGE_PURPOSE: Final = b"wakeful requests that came through the edge"


def store_secrets(values: Mapping[str, str], still: Collection[str], owner: str) -> None:
    """Stores these values on the cluster and deletes all others of the same owner but those in
    ``still``. Blocking.

    Args:
        values: by mark.
        owner: what all marks of one state folder begin with
            (``runtime.system.secrets.key_digest``).
    """
    store = _head_store()
    for mark, value in values.items():
        store.put(KEY + mark, value)
    stored = {key.removeprefix(KEY) for key in store.keys(KEY + owner)}
    for mark in stored - values.keys() - set(still):
        store.drop(KEY + mark)


def fetch_secrets(marks: Collection[str]) -> dict[str, str]:
    """The values of the marks that the cluster has. Blocking."""
    store = _head_store()
    found = {mark: store.get(KEY + mark) for mark in marks}
    return {mark: value for mark, value in found.items() if value is not None}


async def fetch_into(secrets: Secrets, named: Iterable[Mapping[str, str]]) -> None:
    """Fetches the values of these marks into the secrets of this process, as far as the cluster has
    them. From now on they are hidden in what it writes.

    Args:
        named: marks by the names that declarations have for them.
    """
    import asyncio  # late, as Ray is: HAProxy's program, which derives the secret, starts often

    pairs = [pair for marks in named for pair in marks.items()]
    if pairs:
        secrets.learn(await asyncio.to_thread(fetch_secrets, {mark for _, mark in pairs}))
    for name, mark in pairs:
        secrets.find(name, mark)


def secret_of_token(environ: Mapping[str, str] = os.environ) -> str:
    """The secret of a cluster that asks for a token, from Ray's variables; empty where none is
    asked for.
    """
    if environ.get("RAY_AUTH_MODE") != "token":
        return ""
    token = environ.get("RAY_AUTH_TOKEN", "")
    if not token:
        path = Path(environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
        token = path.read_text(encoding="utf-8") if path.exists() else ""
    return derive_secret(token.strip()) if token.strip() else ""


def edge_secret(secret: str) -> str:
    """What the edge adds to every request (``runtime.http.transport.edge``), by the secret of calls
    between functions, which cannot be derived from it: applications that are not ours see it. 128
    bits in 22 letters, since it is read with each call.
    """
    digest = hmac.digest(secret.encode(), EDGE_PURPOSE, "sha256")
    return base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()


def agree_on_secret() -> str:
    """The secret of the cluster that this process belongs to; blocking."""
    return secret_of_token() or _random_secret()


def _random_secret() -> str:
    """The same in every process of the cluster: the first one that asks draws it."""
    store = _head_store()
    store.put_first(CALL_KEY, os.urandom(32).hex())
    found = store.get(CALL_KEY)
    assert found is not None
    return found


def _head_store() -> type[HeadStore]:
    """Imported late: HAProxy's program, which derives the secret, does not import Ray."""
    from deployments.ray_support.ray_internals import HeadStore

    return HeadStore
