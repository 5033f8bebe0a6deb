"""The file of keys, which commands write and servers read while they run.

    {"form": 1, "keys": [
    {"name": "ci", "sha256": "9f…", "functions": ["embed"], "rps": 20}
    ]}

An entry is what ``http.auth.keys`` of a declaration has, and ``former``: digests that are being
rotated out, each with the moment from which on it is refused.

Only its owner, or root, may change it, or a server does not read it. It is there whole or not at
all, and one command at a time changes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, model_validator

from runtime.declaration.access.changes import KeyRefused
from runtime.declaration.access.keys import AccessKey, KeyDigest
from runtime.declaration.http_section import (
    MAX_DIGESTS,
    SCOPES,
    Digest,
    KeySpec,
    Moment,
    check_distinct,
    check_keys,
    read_moment,
)
from runtime.declaration.validation import (
    StrictModel,
    ValidationIssue,
    format_path,
    validate_all,
    validation_error,
)
from runtime.declaration.yaml_reader import parse
from runtime.errors import DeclarationError, Problem
from runtime.system.files import put_in_place

FORM: Final = 1

MAX_BYTES: Final = 32 << 20
"""Largest file read: 20,000 keys of 1.6 KB each."""

LOCK_S: Final = 10.0
"""Longest wait for another command: a change takes milliseconds."""

LINES_WITHIN: Final = 64 << 10
"""Characters up to which a file is read again for the lines of what is wrong: it is a file that was
written by hand, and YAML is slow.
"""


class FormerDigest(StrictModel):
    """A digest that is being rotated out."""

    sha256: Digest
    until: Moment


class StoredKey(KeySpec):
    """A key of the file."""

    former: tuple[FormerDigest, ...] = Field((), strict=False, max_length=MAX_DIGESTS)

    @model_validator(mode="after")
    def _check_former(self) -> Self:
        if self.former and self.sha256 is None:
            raise validation_error("former keys of no key. Delete them.", ("former",))
        return self

    def key(self) -> AccessKey:
        """What it opens."""
        former = (KeyDigest(one.sha256, read_moment(one.until)) for one in self.former)
        return AccessKey.of(self, former)


class StoredKeys(StrictModel):
    """The file."""

    form: Literal[1]
    keys: tuple[StoredKey, ...] = Field(strict=False)

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_keys(self.keys)
        check_distinct(
            "keys",
            (
                (digest, (index, "former"))
                for index, one in enumerate(self.keys)
                for digest in {*(one.sha256 or ()), *(each.sha256 for each in one.former)}
            ),
            "One key has one name: delete one of the two.",
        )
        return self


def read_keys(path: Path) -> tuple[AccessKey, ...]:
    """The keys of a file, in its order; none where there is no file.

    Raises:
        DeclarationError: it cannot be read or trusted, with everything that is wrong.
    """
    file = str(path)
    text = _read_text(path)
    if text is None:
        return ()
    try:
        data = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        message = f"it is not JSON, at column {error.colno}: {error.msg}."
        raise DeclarationError([Problem(file, error.lineno, "", message)]) from None
    except (ValueError, RecursionError) as error:
        deep = "it is nested too deep, or has a number of too many digits"
        reason = str(error) if isinstance(error, _NotStrict) else deep
        raise DeclarationError([Problem(file, 0, "", f"{reason}.")]) from None
    if isinstance(data, dict) and isinstance(data.get("form"), int) and data["form"] > FORM:
        message = "written by a newer Wakeful, in a form that is not known here. Update this one."
        raise DeclarationError([Problem(file, 0, "form", message)])
    found, issues = validate_all(StoredKeys, data)
    if found is None:
        raise DeclarationError(_problems(file, text, issues))
    return tuple(one.key() for one in found.keys)


def write_keys(path: Path, keys: Sequence[AccessKey]) -> None:
    """Write the file anew. Readers see the old or the new one, whole, also after a power cut. A new
    one is readable by its owner alone; one that a group or all may read stays so, and a link stays
    one.

    Raises:
        KeyRefused: it cannot be written.
    """
    target = path.resolve()
    draft = target.with_name(f".{target.name}.new")
    lines = ",\n".join(json.dumps(_entry(key), ensure_ascii=False) for key in keys)
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(draft, flags, 0o600), "w", encoding="utf-8") as out:
            out.write(f'{{"form": {FORM}, "keys": [\n{lines}\n]}}\n')
            _keep_readers(out.fileno(), target)
        put_in_place(draft, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise KeyRefused(f"{path} cannot be written: {error.strerror}.") from error


def _keep_readers(descriptor: int, target: Path) -> None:
    """Let a file be read by the group, or all, that may read the one in its place."""
    try:
        before = target.stat()
    except FileNotFoundError:
        return
    with contextlib.suppress(PermissionError):  # a group that this user is not in
        os.fchown(descriptor, -1, before.st_gid)
        os.fchmod(descriptor, 0o600 | (before.st_mode & 0o044))


@contextmanager
def hold_keys(path: Path, *, timeout_s: float = LOCK_S) -> Iterator[None]:
    """Within, no other command changes the file. The system lets go when the process ends.

    Raises:
        KeyRefused: another command changes it for longer than ``timeout_s``, or the folder cannot
            be written.
    """
    from filelock import FileLock, Timeout  # 8 ms that most commands and processes do without

    target = path.resolve()
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(target.with_name(f".{target.name}.lock"), timeout=timeout_s, mode=0o600)
        lock.acquire()
    except Timeout:
        raise KeyRefused(f"another command changes {path}. Wait for it, then try again.") from None
    except OSError as error:
        raise KeyRefused(
            f"the folder of {path} cannot be written: {error.strerror}. Name another file, in"
            " `http.auth.file` or WAKEFUL_KEYS."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _read_text(path: Path) -> str | None:
    """Its text; None where nothing is. What is checked is the file that is read, whatever stands at
    the path by then; what is no file is not waited for.
    """
    file = str(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DeclarationError(
            [Problem(file, 0, "", f"cannot be read: {error.strerror}.")]
        ) from error
    with os.fdopen(descriptor, "rb") as stream:
        if message := distrust_reason(os.fstat(descriptor), os.getuid()):
            raise DeclarationError([Problem(file, 0, "", message)])
        try:
            content = stream.read(MAX_BYTES + 1)
            if len(content) > MAX_BYTES:
                message = f"larger than {MAX_BYTES >> 20} MiB, the most that is read."
                raise DeclarationError([Problem(file, 0, "", message)])
            return content.decode()
        except OSError as error:
            message = f"cannot be read: {error.strerror}."
            raise DeclarationError([Problem(file, 0, "", message)]) from error
        except UnicodeDecodeError:
            raise DeclarationError([Problem(file, 0, "", "it is not UTF-8.")]) from None


def distrust_reason(status: os.stat_result, user: int) -> str:
    """Why a file of keys is not taken, as a sentence; empty: it is.

    Args:
        status: of the file.
        user: that this process runs as.
    """
    if not stat.S_ISREG(status.st_mode):
        return "it is no file."
    if status.st_uid not in (user, 0):
        return (
            f"it belongs to user {status.st_uid}, and this is user {user}: another user could add"
            " keys. Make it yours, or root's."
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "other users may write it, and could add keys. Run: chmod 600"
    return ""


class _NotStrict(ValueError):
    """JSON that means two things, or none."""


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _NotStrict(f"{json.dumps(twice[:64])} stands twice in one entry")
    return found


def _refuse_constant(word: str) -> Any:
    raise _NotStrict(f"{word} is no number of JSON's")


def _problems(file: str, text: str, issues: Sequence[ValidationIssue]) -> list[Problem]:
    document, problems = None, []
    if len(text) <= LINES_WITHIN:
        with contextlib.suppress(DeclarationError):  # not all of JSON is YAML
            document = parse(text, file)
    for issue in issues:
        key = format_path(issue.path)
        line = 0 if document is None else document.line(key)
        problems.append(Problem(file, line, key, issue.message))
    return sorted(problems, key=lambda problem: problem.line)


def _entry(key: AccessKey) -> dict[str, Any]:
    """A key as the file has it: without what it leaves out."""
    current = [one.sha256 for one in key.digests if one.until is None]
    former = [
        {"sha256": one.sha256, "until": moment_text(one.until)}
        for one in key.digests
        if one.until is not None
    ]
    values: dict[str, Any] = {
        "name": key.name,
        "sha256": current[0] if len(current) == 1 else current or None,
        "subject": key.subject or None,
        "functions": None if key.functions is None else sorted(key.functions),
        "scope": [scope for scope in SCOPES if scope in key.scopes],
        "rps": key.rps,
        "in_flight": key.in_flight,
        "expires": None if key.expires_at is None else moment_text(key.expires_at),
        "former": former or None,
    }
    return {name: value for name, value in values.items() if value is not None}


def moment_text(at: float) -> str:
    """A moment as the file has it, to the second.

    Args:
        at: seconds since 1970.
    """
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
