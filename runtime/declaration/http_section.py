"""What the file says of HTTP beyond Ray's ``http_options``: pages of other origins that may call,
the keys that calls carry, and TLS.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema, model_validator

from runtime.declaration.constrained_types import FilePath, Name, written_as
from runtime.declaration.validation import StrictModel, validation_error
from runtime.system.messages import closest_match, expected_message, is_key, quote

ANY_ORIGIN: Final = "*"

MAX_ORIGINS: Final = 100

_ORIGIN: Final = re.compile(
    r"[a-z][a-z0-9+.-]*://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>\d{1,5}))?"
)
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}


def _check_origin(origin: str) -> str:
    if origin == ANY_ORIGIN:
        return origin
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        raise validation_error(
            f"{quote(origin)} is not an origin: https://HOST or http://HOST:PORT in small letters, "
            'without a path, or "*" for every page.'
        )
    scheme = origin.partition(":")[0]
    if found["port"] is not None and found["port"] == _DEFAULT_PORTS.get(scheme):
        raise validation_error(
            f"{quote(origin)} has its scheme's own port, which browsers leave out. "
            f"Write {quote(origin.rpartition(':')[0])}."
        )
    return origin


class CorsSpec(StrictModel):
    """Which pages of other origins a browser may let call (CORS)."""

    origins: tuple[Annotated[str, AfterValidator(_check_origin)], ...] = Field(
        strict=False,
        min_length=1,
        max_length=MAX_ORIGINS,
        description=(
            'Origins of those pages, such as `https://app.example`, or `"*"` for every page. '
            "Their scripts may send any header, and read every answer."
        ),
    )
    credentials: bool = Field(
        False,
        description=(
            "Whether browsers send cookies and passwords along, which something in front of "
            "Wakeful may read. false: they do not. Not with `*`."
        ),
    )
    max_age_s: int = Field(
        600,
        ge=0,
        le=86_400,
        description=(
            "How long a browser remembers that it may call. 600: a page asks once in a while, and "
            "an origin that is deleted here is forgotten soon."
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if ANY_ORIGIN in self.origins and self.credentials:
            raise validation_error(
                "every page of the world would act with the user's cookies. Name the origins, or "
                "delete `credentials`."
            )
        return self


Scope = Literal["call", "look", "operate"]
"""What a key is for: calls of functions; what shows their state; what changes it."""

SCOPES: Final[tuple[str, ...]] = get_args(Scope)

MAX_KEYS: Final = 20_000
"""Of a file, and of both together. HAProxy keeps about 1 KB for each."""

MAX_FUNCTIONS: Final = 500
"""That a key names: with names of any length they fit one command to HAProxy, and one header.
"""

MAX_DIGESTS: Final = 8
"""Of one key: the one it has, and those that are being rotated out."""

_DIGEST: Final = re.compile(r"[0-9a-fA-F]{64}")
_SUBJECT: Final = re.compile(r"[!-~]{1,128}")

_HOW_TO_DIGEST: Final = (
    "`wakeful keys add NAME` makes a key and keeps its digest; `printf %s KEY | sha256sum` prints"
    " that of one you have."
)


def _check_key_name(name: str) -> str:
    if is_key(name):
        raise validation_error(
            "this is a key, and a key's name stands in logs and metrics. Write a name, and make"
            " another key: this one has been written down."
        )
    return name


def _check_digest(digest: object) -> str:
    """Lower case. No message repeats the text: it may be the key itself."""
    if not isinstance(digest, str):
        raise validation_error(expected_message(digest, "a string"))
    if is_key(digest):
        raise validation_error(
            "this is the key itself: whatever reads the file could call with it. Write its sha256"
            f" ({_HOW_TO_DIGEST}), and take another key: this one has been written down."
        )
    if not _DIGEST.fullmatch(digest):
        what = f"{len(digest)} characters" if len(digest) != 64 else "other characters in it"
        raise validation_error(
            f"a sha256 has 64 hexadecimal digits, and this has {what}. {_HOW_TO_DIGEST}"
        )
    return digest.lower()


def _check_digests(value: object) -> tuple[str, ...]:
    """One or several."""
    if not isinstance(value, list | tuple):
        return (_check_digest(value),)
    if not 1 <= len(value) <= MAX_DIGESTS:
        raise validation_error(f"{len(value)} are given, 1 to {MAX_DIGESTS} are wanted.")
    return tuple(map(_check_digest, value))


def _check_scopes(value: object) -> tuple[str, ...]:
    """One or several, each once, in the order of ``SCOPES``."""
    given = value if isinstance(value, list | tuple) else [value]
    if not given:
        raise validation_error(f"none is given. Write one of {', '.join(SCOPES)}, or several.")
    for scope in given:
        if scope not in SCOPES:
            meant = closest_match(scope, SCOPES) if isinstance(scope, str) else None
            raise validation_error(
                f"{quote(scope)} is not one of {', '.join(SCOPES)}"
                f"{f', did you mean {meant}?' if meant else '.'}"
            )
    return tuple(scope for scope in SCOPES if scope in given)


def read_moment(text: str) -> float:
    """Seconds since 1970 of a date, which is its first moment in UTC, or of a time with its zone.

    Raises:
        ValueError: it is neither.
    """
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text) is None:
            raise ValueError(text)
        found = found.replace(tzinfo=UTC)
    return found.timestamp()


def _check_moment(text: str) -> str:
    try:
        read_moment(text)
    except (ValueError, OverflowError):
        raise validation_error(
            f"{quote(text)} is not a date such as '2027-03-01', or a time such as"
            " '2027-03-01T12:00:00Z'."
        ) from None
    return text


def _check_subject(subject: str) -> str:
    if not _SUBJECT.fullmatch(subject):
        raise validation_error(
            f"{quote(subject)} is not the common name (CN) of a certificate as it is compared here:"
            " 1 to 128 characters of ASCII, without blanks."
        )
    return subject


def one_or_several(item: dict[str, Any]) -> WithJsonSchema:
    """What editors are told of a key that takes one value or a list of them."""
    return WithJsonSchema({"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]})


KeyName = Annotated[Name, AfterValidator(_check_key_name)]
Digest = Annotated[str, PlainValidator(_check_digest), written_as(_DIGEST.pattern)]
Digests = Annotated[
    tuple[str, ...],
    PlainValidator(_check_digests),
    one_or_several({"type": "string", "pattern": f"^{_DIGEST.pattern}$"}),
]
Scopes = Annotated[
    tuple[str, ...],
    PlainValidator(_check_scopes),
    one_or_several({"enum": list(SCOPES)}),
]
Moment = Annotated[
    str,
    AfterValidator(_check_moment),
    written_as(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?"),
]
Subject = Annotated[str, AfterValidator(_check_subject), written_as(_SUBJECT.pattern)]


class KeySpec(StrictModel):
    """A key that calls carry: what it opens, and how much of it."""

    name: KeyName = Field(
        description="What logs, metrics, traces and limits call it. One key has one name."
    )
    sha256: Digests | None = Field(
        None,
        description=(
            "The key's digest, 64 hexadecimal digits; several while a new key takes the place of an"
            " old one. Never the key."
        ),
    )
    subject: Subject | None = Field(
        None,
        description=(
            "In place of `sha256`: the common name (CN) of a client certificate, where"
            " `http.tls.client_ca` is given."
        ),
    )
    functions: tuple[Name, ...] | None = Field(
        None,
        strict=False,
        min_length=1,
        max_length=MAX_FUNCTIONS,
        description=(
            "Functions that it may call and see; all others are as if they were not there. Unset:"
            " all."
        ),
    )
    scope: Scopes = Field(
        ("call",),
        description=(
            "`call`: functions. `look`: `/`, `/console`, `/docs`, `/metrics`, `/functions`, the"
            " index. `operate`: loading and unloading (`/v2/repository`). One of them, or a list."
            " `call`: what a client needs."
        ),
    )
    rps: float | None = Field(
        None,
        ge=0.01,
        le=1_000_000,
        description="Requests a second; what is beyond is answered 429. Unset: no limit.",
    )
    in_flight: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Requests at once; what is beyond is answered 429. Unset: no limit.",
    )
    expires: Moment | None = Field(
        None,
        description=(
            'From when on it is refused: `"2027-03-01"`, which is the first moment of that day'
            ' (UTC), or a time, `"2027-03-01T12:00:00Z"`. Unset: never.'
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.sha256 is None) == (self.subject is None):
            both = "both are given" if self.sha256 else "neither is given"
            raise validation_error(
                f"a key has `sha256`, or `subject` of a client's certificate, and {both}.",
                also=[("sha256",), ("subject",)],
            )
        return self


def check_distinct(
    key: str, found: Iterable[tuple[Hashable, tuple[str | int, ...]]], advice: str
) -> None:
    """See that no value of some entries is there twice.

    Args:
        key: the list that the entries are in.
        found: each value with its place in the list.
        advice: a sentence, of what to do.

    Raises:
        PydanticCustomError: at the second one.
    """
    first: dict[Hashable, str | int] = {}
    for value, place in found:
        if value in first:
            raise validation_error(f"{key}[{first[value]}] has it too. {advice}", (key, *place))
        first[value] = place[0]


def check_keys(keys: Iterable[KeySpec]) -> None:
    """See that each key of a list is one of its own: by its name, digests and subject.

    Raises:
        PydanticCustomError: at the second one of two.
    """
    keys = tuple(keys)
    if len(keys) > MAX_KEYS:
        raise validation_error(f"{len(keys)} keys are more than the {MAX_KEYS} that are kept.")
    check_distinct(
        "keys",
        ((one.name, (index, "name")) for index, one in enumerate(keys)),
        "Two keys of one name could not be told apart: write another.",
    )
    check_distinct(
        "keys",
        (
            (digest, (index, "sha256"))
            for index, one in enumerate(keys)
            for digest in one.sha256 or ()
        ),
        "One key has one name: delete one of the two.",
    )
    check_distinct(
        "keys",
        ((one.subject, (index, "subject")) for index, one in enumerate(keys) if one.subject),
        "One certificate has one name: delete one of the two.",
    )


class AuthSpec(StrictModel):
    """Keys are asked for, wherever the server listens."""

    keys: tuple[KeySpec, ...] = Field(
        (),
        strict=False,
        description=(
            "Keys that are declared. Those of `wakeful keys add` are in a file of their own, and"
            " need no restart."
        ),
    )
    file: FilePath | None = Field(
        None,
        description=(
            "The file of `wakeful keys`, which changes without a restart; a relative path starts at"
            " the root folder, and `WAKEFUL_KEYS` goes before it. Unset:"
            " `~/.local/state/wakeful/keys.json`."
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_keys(self.keys)
        return self


class TlsSpec(StrictModel):
    """TLS at the public port: HTTP/1.1 and HTTP/2, of TLS 1.2 and later."""

    cert: FilePath = Field(
        description=(
            "The certificate, in PEM: the server's first, then those that lead to its authority. A"
            " relative path starts at the root folder."
        ),
    )
    key: FilePath = Field(
        description=(
            "The certificate's private key, in PEM, without a password; a file that not every user"
            " of the machine can read."
        ),
    )
    client_ca: FilePath | None = Field(
        None,
        description=(
            "Authorities of client certificates, in PEM: a client without a certificate of one of"
            " them gets no connection. Unset: clients need none."
        ),
    )


class HttpSection(StrictModel):
    """HTTP beyond what Ray has keys for."""

    cors: CorsSpec | None = Field(
        None, description="Pages of other origins that may call. Unset: none."
    )
    auth: AuthSpec | None = Field(
        None,
        description=(
            "Keys that calls carry ([keys](keys.md)); `{}`: those of `wakeful keys` alone. Unset:"
            " none on the loopback address; elsewhere those of `wakeful keys`, without which"
            " nothing is served."
        ),
    )
    tls: TlsSpec | None = Field(
        None,
        description=(
            "TLS at the public port ([TLS](tls.md)); files that change are taken without a"
            " restart. Unset: HTTP in the clear."
        ),
    )
    connections_per_address: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description=(
            "Connections that one address holds at once where HAProxy stands before the processes;"
            " further ones are closed. Those of this machine are not counted. Behind a proxy all"
            " have its address: write as many as it opens. Unset: a quarter of all, which is 1,024."
        ),
    )
    console: bool = Field(
        True,
        description=(
            "Whether [the console](console.md) is at `/console`, and at `/` for browsers. true: it"
            " costs no call anything."
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _check_empty(cls, data: Any) -> Any:
        if isinstance(data, dict) and "auth" in data and data["auth"] is None:
            raise validation_error(
                "nothing stands here, which may mean two things. Write `auth: {}` for the keys of"
                " `wakeful keys`, or delete the key.",
                ("auth",),
            )
        if isinstance(data, dict) and "tls" in data and data["tls"] is None:
            raise validation_error(
                "nothing stands here, and HTTP would be served in the clear. Write"
                " `tls: {cert: FILE, key: FILE}`, or delete the key.",
                ("tls",),
            )
        return data
