"""Locust's users of a file's functions, for a locustfile of two lines: ``docs/loadtest.md``.

    from wakeful.load import users_of
    globals().update(users_of("serve_config.yaml"))

``locust -f locustfile.py`` then shows its page; a user is a call a second of a function, at random
moments, and latency counts from when a call was to be sent. ``wakeful loadtest`` sends the same
calls, and judges what comes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployments.loadtest.calls.answers import AnswerChecks
from deployments.loadtest.function_calls import make_calls
from deployments.loadtest.generator.locust_users import UserCalls, make_users
from deployments.loadtest.load_options import LoadOptions
from deployments.loadtest.preparation import ask_functions, choose_functions, read_given
from runtime.declaration import config_file
from runtime.settings import Settings

__all__ = ["users_of"]


def users_of(
    file: Path | str = "serve_config.yaml",
    *,
    calls: Mapping[str, Path | str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> dict[str, type[Any]]:
    """A class of Locust's users for each function of a file, by its name: ``EmbedUser`` of
    ``embed``. The server at Locust's host is asked how they are called when the first user starts.

    Args:
        calls: files with rows, one a line in JSON, by function; others are called with their
            example.
        headers: of every call.

    Raises:
        DeclarationError: with everything that is wrong with the file.
    """
    declared = config_file.read(file)
    root = Settings.read(file=Path(file)).root
    given = tuple((name, Path(path)) for name, path in (calls or {}).items())
    specs = {spec.name: spec for spec in declared.functions}
    options = LoadOptions(calls=given, headers=headers or {})
    rows = read_given(options)

    def prepare(url: str) -> UserCalls:
        served = ask_functions(url, options.headers)
        names = choose_functions(LoadOptions(functions=tuple(specs)), (), served)
        forms = {name: served[name].form for name in names}
        made = make_calls(names, served, specs, options, rows, root)
        return UserCalls(made, AnswerChecks(forms))

    return make_users(list(specs), prepare)
