"""What ``wakeful run --reload`` takes of an edit of ``http``, and what it says of the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from deployments.cli.options import key_table_of

if TYPE_CHECKING:
    from runtime.declaration.access.key_table import KeyTable
    from runtime.declaration.config_file import ConfigFile
    from runtime.settings import Settings


def take_keys(
    started: ConfigFile,
    edited: ConfigFile,
    settings: Settings,
    *,
    asks_for_keys: bool,
    say: Callable[[str], None],
) -> KeyTable | None:
    """The keys of an edited file, which hold from now on; None: those before do. What of the edit
    waits for another start is said.

    Args:
        started: the file at the start of the run.
        asks_for_keys: the run does, since its start.

    Raises:
        DeclarationError: the file of keys cannot be read or trusted, or has a key that is declared.
    """
    for sentence in untaken_changes(started, edited, asks_for_keys=asks_for_keys):
        say(sentence)
    if edited.auth is None or not asks_for_keys:
        return None
    table = key_table_of(edited.auth, settings)
    table.read()
    return table


def untaken_changes(
    started: ConfigFile, edited: ConfigFile, *, asks_for_keys: bool
) -> Iterator[str]:
    """What of an edit waits for another start, each in a sentence. Pure.

    Args:
        started, asks_for_keys: as of ``take_keys``.
    """
    if edited.http != started.http:
        yield "http_options is taken at the start alone: start the run anew."
    if edited.tls != started.tls:
        yield (
            "http.tls is taken at the start alone (what is in its files may change): start the run "
            "anew."
        )
    if edited.auth is not None and not asks_for_keys:
        yield "http.auth is new, and calls need no keys yet: start the run anew."
    if edited.auth is None and started.auth is not None:
        yield "http.auth is gone, and calls go on needing the keys before: start the run anew."
