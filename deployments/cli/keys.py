"""``wakeful keys``: makes, lists, removes and rotates API keys. A key is printed once, alone on
standard output, so that a shell can take it; it is in no argument and no file.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from deployments.cli.options import (
    FILE,
    FiniteRange,
    echo_json,
    join_names,
    json_option,
    key_file_of,
)
from runtime.system.messages import did_you_mean, is_key

if TYPE_CHECKING:
    from runtime.declaration.access.keys import AccessKey
    from runtime.declaration.config_file import ConfigFile

UNITS_S: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}

SEEN_S: Final = 2
"""Within so long a running server knows of a change."""


class Lifetime(click.ParamType[float]):
    """Seconds, of a text such as ``90d``, ``12h``, ``30m`` or ``45s``."""

    name = "TIME"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Its seconds."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d{1,9})([smhd])", value)
        if found is None:
            self.fail(f"{value!r} is not a time such as 90d, 12h, 30m or 45s.", param, ctx)
        return int(found[1]) * UNITS_S[found[2]]


class ListOf(click.ParamType[tuple[str, ...]]):
    """Names between commas, each once."""

    name = "NAMES"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The names."""
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
        if "" in names:
            self.fail(f"{value!r} has a name that is empty.", param, ctx)
        return names


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where the keys are that commands change.

    Attributes:
        path: the file of keys.
        declared: the file that declares functions, and perhaps keys; None: there is none.
    """

    path: Path
    declared: ConfigFile | None

    @classmethod
    def of(cls, file: Path | None) -> KeyPlace:
        """By the file of the command line; None: none was named, and the default may be missing.

        Raises:
            DeclarationError: the file is wrong.
        """
        from runtime.declaration import config_file
        from runtime.settings import Settings

        chosen = Path(FILE) if file is None else file
        settings = Settings.read(file=chosen)
        has_file = file is not None or chosen.exists()
        declared = config_file.read(chosen) if has_file else None
        return cls(key_file_of(declared.auth if declared else None, settings), declared)

    @property
    def declared_keys(self) -> tuple[AccessKey, ...]:
        """Those of the file that declares functions, which no command changes."""
        from runtime.declaration.access.keys import AccessKey

        auth = self.declared.auth if self.declared is not None else None
        return tuple(map(AccessKey.of, auth.keys if auth is not None else ()))

    def change(
        self, change: Callable[[tuple[AccessKey, ...], float], tuple[AccessKey, ...]]
    ) -> tuple[AccessKey, ...]:
        """Change the keys of the file, and return them.

        Args:
            change: gets the keys, and the time in seconds since 1970.
        """
        from runtime.declaration.access.changes import without_spent
        from runtime.declaration.access.key_file import hold_keys, read_keys, write_keys

        with hold_keys(self.path):
            now = time.time()
            keys = change(without_spent(read_keys(self.path), now), now)
            write_keys(self.path, keys)
        return keys

    def refuse_declared(self, name: str, what: str) -> None:
        """See that a key is not one of the file that declares functions.

        Raises:
            KeyRefused: it is.
        """
        from runtime.declaration.access.changes import KeyRefused

        for index, key in enumerate(self.declared_keys):
            if key.name == name:
                assert self.declared is not None
                where = "{}:{}".format(*self.declared.locate(f"http.auth.keys[{index}]"))
                raise KeyRefused(f"{name!r} is declared in {where}. {what}")


file_option = click.option(
    "--file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"The file that declares functions; by default {FILE}, if there is one.",
)

name_argument = click.argument("name", callback=lambda ctx, param, value: _check_name(value))


def _check_name(name: str) -> str:
    """Refuses a key, which would be seen among the arguments of processes."""
    if is_key(name):
        raise click.BadParameter("that is a key, and it takes a key's name.", param_hint="NAME")
    return name


@click.group(short_help="Make, list, remove and rotate API keys.")
def keys() -> None:
    """Keys that calls carry, as `Authorization: Bearer KEY` or `x-api-key: KEY`.

    They are kept as digests in a file, `http.auth.file` of FILE or WAKEFUL_KEYS, which running
    servers read anew within two seconds.
    """


@keys.command(short_help="Make a key, and print it once.")
@name_argument
@click.option("--functions", type=ListOf(), metavar="A,B", help="What it may call; by default all.")
@click.option("--rps", type=FiniteRange(0.01, 1e6), help="Requests a second; by default any.")
@click.option("--in-flight", type=click.IntRange(1, 10**6), help="Calls at once; by default any.")
@click.option(
    "--scope",
    "scopes",
    type=ListOf(),
    multiple=True,
    metavar="SCOPE",
    help="call: functions; look: what shows their state; operate: loading and unloading. May be "
    "given again; by default call.",
)
@click.option("--expires", type=Lifetime(), metavar="TIME", help="Refused after so long: 90d.")
@file_option
@json_option
def add(
    name: str,
    functions: tuple[str, ...] | None,
    rps: float | None,
    in_flight: int | None,
    scopes: tuple[tuple[str, ...], ...],
    expires: float | None,
    file: Path | None,
    as_json: bool,
) -> None:
    """Make a key of this NAME, and print it: KEY=$(wakeful keys add NAME).

    It is shown this once. NAME stands for it in logs, metrics and traces.
    """
    from runtime.declaration.access.changes import with_key
    from runtime.declaration.access.key_file import moment_text
    from runtime.declaration.access.keys import AccessKey, digest_of, make_key

    place = KeyPlace.of(file)
    place.refuse_declared(name, "Take another name.")
    if functions is not None:
        _refuse_unknown(functions, place.declared)
    key = make_key()
    spec = _checked(
        {
            "name": name,
            "sha256": digest_of(key),
            "functions": None if functions is None else list(functions),
            "scope": [scope for given in scopes for scope in given] or "call",
            "rps": rps,
            "in_flight": in_flight,
            "expires": None if expires is None else moment_text(time.time() + expires),
        }
    )
    new = AccessKey.of(spec)
    place.change(lambda held, now: with_key(held, new))
    _print_key(place, new, key, as_json)


@keys.command("list", short_help="Show the keys, without the keys themselves.")
@file_option
@json_option
def list_keys(file: Path | None, as_json: bool) -> None:
    """Show each key's name, what it opens, its limits and its end; never the key."""
    from deployments.cli.terminal import new_table, print_table
    from runtime.declaration.access.key_file import read_keys

    place, now = KeyPlace.of(file), time.time()
    declared = place.declared_keys
    found = [
        *((key, str(place.declared.path)) for key in declared if place.declared is not None),
        *((key, str(place.path)) for key in read_keys(place.path)),
    ]
    if as_json:
        echo_json([{**describe(key, now), "file": source} for key, source in found])
        return
    if not found:
        click.echo(f"there are no keys in {place.path}.")
        return
    table = new_table()
    for column in ("key", "functions", "scope", "a second", "at once", "until"):
        table.add_column(column, overflow="fold")
    for key, _ in found:
        table.add_row(*cells(key, now))
    print_table(table)


@keys.command(short_help="Remove a key: it is refused from now on.")
@name_argument
@file_option
def remove(name: str, file: Path | None) -> None:
    """Remove the key of this NAME. Calls under way are answered."""
    from runtime.declaration.access.changes import without_key

    place = KeyPlace.of(file)
    place.refuse_declared(name, "Delete it there.")
    place.change(lambda held, now: without_key(held, name))
    click.echo(f"{name} is removed; running servers refuse it within {SEEN_S} s.")


@keys.command(short_help="Make another key of a name; the former one is taken for a while.")
@name_argument
@click.option(
    "--keep",
    type=Lifetime(),
    default="1d",
    metavar="TIME",
    show_default=True,
    help="How long the former key is taken; 0s: it is refused at once.",
)
@file_option
@json_option
def rotate(name: str, keep: float, file: Path | None, as_json: bool) -> None:
    """Make another key of this NAME, and print it. What it opens and its limits stay."""
    from runtime.declaration.access.changes import with_rotated
    from runtime.declaration.access.keys import digest_of, make_key

    place = KeyPlace.of(file)
    place.refuse_declared(name, "Write a second digest beside the first there.")
    key = make_key()
    held = place.change(
        lambda held, now: with_rotated(held, name, digest_of(key), now, keep_s=keep)
    )
    rotated = next(one for one in held if one.name == name)
    _print_key(place, rotated, key, as_json)


def _checked(entry: dict[str, Any]) -> Any:
    """An entry as the file of keys takes it.

    Raises:
        UsageError: with everything that is wrong, by the names of the options.
    """
    from runtime.declaration.http_section import KeySpec
    from runtime.declaration.validation import validate_all

    spec, issues = validate_all(KeySpec, entry)
    if spec is None:
        raise click.UsageError(
            "\n".join(f"{_option_of(issue.path)}: {issue.message}" for issue in issues)
        )
    return spec


def _option_of(path: Sequence[str | int]) -> str:
    """The option, or argument, that a key of an entry is."""
    key = str(path[0]) if path else "NAME"
    return "NAME" if key == "name" else f"--{key.replace('_', '-')}"


def _refuse_unknown(names: Iterable[str], declared: ConfigFile | None) -> None:
    """Raises BadParameter for a function that the file, if there is one, does not have."""
    if declared is None:
        return
    known = [spec.name for spec in declared.functions]
    for name in names:
        if name not in known:
            raise click.BadParameter(
                f"no function {name!r} is in {declared.path}{did_you_mean(name, known) or '.'}",
                param_hint="--functions",
            )


def _print_key(place: KeyPlace, key: AccessKey, text: str, as_json: bool) -> None:
    """The key on standard output; what it opens, and where it is kept, beside it."""
    now = time.time()
    if as_json:
        echo_json({"key": text, **describe(key, now), "file": str(place.path)})
        return
    click.echo(text)
    click.echo(
        f"{key.name}: {summary(key, now)}. This is the only time that it is shown; {place.path} "
        f"has its digest, and running servers take it within {SEEN_S} s.",
        err=True,
    )


def summary(key: AccessKey, now: float) -> str:
    """What a key opens, in a line.

    Args:
        now: seconds since 1970.
    """
    found = describe(key, now)
    what = "all functions" if key.functions is None else join_names(found["functions"])
    words = [f"{' and '.join(found['scope'])} of {what}"]
    if key.rps is not None:
        words.append(f"{key.rps:g} requests a second")
    if key.in_flight is not None:
        words.append(f"{key.in_flight} at once")
    if found["expires"]:
        words.append(f"until {found['expires']}")
    if found["former_until"]:
        words.append(f"the former key until {found['former_until']}")
    return ", ".join(words)


def describe(key: AccessKey, now: float) -> dict[str, Any]:
    """A key as plain data, without its digests.

    Args:
        now: seconds since 1970.
    """
    from runtime.declaration.access.key_file import moment_text

    def text(at: float | None) -> str | None:
        return None if at is None else moment_text(at)

    former = [one.until for one in key.digests if one.until is not None and one.until > now]
    return {
        "name": key.name,
        "subject": key.subject or None,
        "functions": None if key.functions is None else sorted(key.functions),
        "scope": ordered(key.scopes),
        "rps": key.rps,
        "in_flight": key.in_flight,
        "expires": text(key.expires_at),
        "has_expired": key.has_expired(now),
        "former_until": text(max(former, default=None)),
    }


def ordered(scopes: Iterable[str]) -> list[str]:
    """Scopes in their usual order."""
    from runtime.declaration.http_section import SCOPES

    return [scope for scope in SCOPES if scope in scopes]


def cells(key: AccessKey, now: float) -> Sequence[str]:
    """A key's row of the table."""
    found = describe(key, now)
    expires = f"{found['expires']}{' (expired)' if found['has_expired'] else ''}"
    ends = [expires] if found["expires"] else []
    ends += [f"the former key {found['former_until']}"] if found["former_until"] else []
    return (
        key.name + (f" (certificate {key.subject})" if key.subject else ""),
        "all" if key.functions is None else ", ".join(found["functions"]),
        ", ".join(found["scope"]),
        "" if key.rps is None else f"{key.rps:g}",
        "" if key.in_flight is None else str(key.in_flight),
        ", ".join(ends),
    )
