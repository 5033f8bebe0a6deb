"""What a file says of HTTP that Ray has no key for: ``http:``, which Ray ignores."""

from __future__ import annotations

import re
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from runtime.declaration.validation import StrictModel, validation_error
from runtime.system.messages import quote

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


class HttpSection(StrictModel):
    """HTTP beyond what Ray has keys for."""

    cors: CorsSpec | None = Field(
        None, description="Pages of other origins that may call. Unset: none."
    )
