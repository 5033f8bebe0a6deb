"""Every error Wakeful raises, whose fault it is, and what the caller of a function sees of it.

    declaration ─▶ store ─▶ load ─▶ request ─▶ queue ─▶ stages ─▶ answer
     1              2        3       4          5        6

    1  DeclarationError                                   the author of serve_config.yaml
    2  StoreError                                         the operator
    3  LoadError, Quarantined (503)                       the author
       NotReady, NoRoom (503)                             the operator
    4  RequestError (400) and its kinds                   the caller
    5  Overloaded (429), DeadlineExceeded (504), Draining (503)      load
    6  RequestError with any 4xx                          the caller
       FunctionError and its kinds, RowQuarantined (500)  the author
       UpstreamError (502), DeviceLost (503)

A message says what, where and how to fix it, in one or two sentences. Only the text of errors in
this tree is ever shown to a caller; any other exception reaches it as a request id and reaches the
log whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

Fault = Literal["caller", "author", "operator", "load", "upstream", "us"]


class WakefulError(Exception):
    """The root: an HTTP status, a stable slug, and where in the input the fault lies.

    Args:
        message: what, where, how to fix, without the request's data in it.
        where: path into the input, such as ``inputs[0].shape``; empty when there is none.
        retry_after_s: seconds after which trying again makes sense; becomes the ``Retry-After``
            header.
    """

    status: int = 500
    code: ClassVar[str] = "internal"
    fault: ClassVar[Fault] = "us"

    def __init__(
        self, message: str, *, where: str = "", retry_after_s: float | None = None
    ) -> None:
        self.message, self.where = map(_encodable, (message, where))
        super().__init__(self.message)
        self.retry_after_s = retry_after_s

    def body(self, request_id: str) -> dict[str, str]:
        """The error form every URL answers with."""
        return {
            "error": self.message,
            "code": self.code,
            "where": self.where,
            "request_id": request_id,
        }

    def element(self, request_id: str) -> dict[str, str | int]:
        """The error form where the answer's own status says nothing of it: in an array of rows, and
        in a stream that has begun.
        """
        return {**self.body(request_id), "status": self.status}


def _encodable(text: str) -> str:
    r"""A text that JSON carries: half a character, as a file's name may have, is told as
    ``\\udc80``.
    """
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a declaration: ``serve_config.yaml:14: applications[0].args.x: message``.
    Line 0: in no line of it.
    """

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class DeclarationError(WakefulError):
    """A declaration cannot be served as written; carries every problem found, in file order."""

    code = "declaration"
    fault = "author"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


class StoreError(WakefulError):
    """A model could not be fetched, built or trusted (no file, wrong sha256, refused build)."""

    code = "store"
    fault = "operator"


class LoadError(WakefulError):
    """The function cannot become ready: a stage does not import, a model does not run. The message
    says why, with files and texts of the author's, which not every caller is to know.
    """

    status = 503
    code = "load_failed"
    fault = "author"

    def brief(self) -> LoadError:
        """The same without the reason."""
        return LoadError(
            "the function did not load; its log has why (`wakeful logs`), and so has `/functions/`"
            " with its name, for keys with the scope `look`.",
            retry_after_s=self.retry_after_s,
        )

    def element(self, request_id: str) -> dict[str, str | int]:
        """As of every error; of a row it is a function that the called one calls, whose reasons are
        its own.
        """
        return {**self.brief().body(request_id), "status": self.status}


class NotReady(WakefulError):
    """The function is loading; the message says what is awaited."""

    status = 503
    code = "not_ready"
    fault = "operator"


class TooManyConsoles(WakefulError):
    """As many pages of the console are open as may be."""

    status = 503
    code = "too_many_consoles"
    fault = "caller"


class NoRoom(WakefulError):
    """The function does not fit beside what is busy in the memory that functions may hold; the
    message has the arithmetic.
    """

    status = 503
    code = "no_room"
    fault = "operator"


QUARANTINE_RETRY_S = 60.0
"""A quarantined function stays so until it is declared again: clients need not retry sooner."""


class Quarantined(WakefulError):
    """The function brought down the process it ran in, more than once, and runs no calls until
    another declaration, code or model of it is taken."""

    status = 503
    code = "quarantined"
    fault = "author"

    @classmethod
    def of(cls, name: str, reason: str) -> Quarantined:
        """Return the error that clients of a function get, from the host and from a replica."""
        return cls(f"{name!r} runs no calls: {reason}", retry_after_s=QUARANTINE_RETRY_S)


class Unavailable(WakefulError):
    """No replica can take the call at present."""

    status = 503
    code = "unavailable"
    fault = "operator"


class Draining(WakefulError):
    """The replica is shutting down and takes nothing new."""

    status = 503
    code = "draining"
    fault = "operator"


class RequestError(WakefulError):
    """The caller sent something that cannot be answered. A stage raises it to refuse a row, with
    any status from 400 to 499.

    Args:
        status: instead of the class's own.

    Raises:
        ValueError: a status that is none of those: the fault is not the caller's.
    """

    status = 400
    code = "bad_request"
    fault = "caller"

    def __init__(
        self,
        message: str,
        *,
        where: str = "",
        retry_after_s: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message, where=where, retry_after_s=retry_after_s)
        if status is None:
            return
        if type(status) is not int or not 400 <= status <= 499:
            raise ValueError(
                f"a stage refuses a row with a status from 400 to 499, not {status!r};"
                " UpstreamError is 502."
            )
        self.status = status


class MalformedBody(RequestError):
    """The body is not the JSON or the binary layout it claims to be."""

    code = "malformed_body"


class UnknownInput(RequestError):
    """An input, output or field that the function does not have."""

    code = "unknown_input"


class MissingInput(RequestError):
    """An input or field that the function needs and did not get."""

    code = "missing_input"


class WrongDatatype(RequestError):
    """A value of another datatype than the function takes."""

    code = "wrong_datatype"


class WrongShape(RequestError):
    """A shape that does not fit the function or its own data."""

    code = "wrong_shape"


class NotThroughEdge(RequestError):
    """The request was sent to a process behind the edge, past HAProxy, where keys are compared."""

    status = 403
    code = "not_through_edge"


class Forbidden(RequestError):
    """The request may not do that: it comes from a page of another site, or does not have the token
    of the console's page.
    """

    status = 403
    code = "forbidden"


class NotFound(RequestError):
    """No function or route of that name."""

    status = 404
    code = "not_found"


class ModelNotFound(NotFound):
    """A route that is shared by many functions was given the name of none."""

    code = "model_not_found"


class MethodNotAllowed(RequestError):
    """The route exists, the method does not.

    Attributes:
        allowed: the methods that it takes, as the ``Allow`` header has them (RFC 9110, section
            15.5.6); empty where they are not known.
    """

    status = 405
    code = "method_not_allowed"
    allowed = ""

    @classmethod
    def of(cls, methods: Sequence[str]) -> MethodNotAllowed:
        """Return the error of a route that takes these."""
        error = cls(f"this route takes {', '.join(methods)}.")
        error.allowed = ", ".join(methods)
        return error


class NotAcceptable(RequestError):
    """None of the media types that the caller accepts is one that the answer can have."""

    status = 406
    code = "not_acceptable"


class SlowUpload(RequestError):
    """The body did not arrive in time."""

    status = 408
    code = "slow_upload"


class SequenceUnknown(RequestError):
    """A call goes on with a sequence of which nothing is kept: lost with its process, expired,
    ended, or never begun.
    """

    status = 409
    code = "sequence_unknown"


class TooLarge(RequestError):
    """More bytes or rows than the function's limits allow."""

    status = 413
    code = "too_large"


class RangeNotSatisfiable(RequestError):
    """A range of an answer that the answer does not have."""

    status = 416
    code = "range_not_satisfiable"


class UnsupportedMediaType(RequestError):
    """A content type or content encoding that is not read here."""

    status = 415
    code = "unsupported_media_type"


class Overloaded(WakefulError):
    """The bounded queue is full, or leaves the call no time; refused at once, not answered late."""

    status = 429
    code = "overloaded"
    fault = "load"


class TooManySequences(Overloaded):
    """As many sequences live as the function keeps; none is dropped for a new one."""

    code = "too_many_sequences"


class DeadlineExceeded(WakefulError):
    """The answer would come after the caller's deadline; it was not computed or is thrown away."""

    status = 504
    code = "deadline_exceeded"
    fault = "load"


class UpstreamError(WakefulError):
    """Something that a stage asked did not answer, or not as it should. A stage raises it; its row
    fails alone.
    """

    status = 502
    code = "upstream_failed"
    fault = "upstream"


class FunctionError(WakefulError):
    """A stage or model failed on this row; the log holds the traceback under the request id."""

    code = "function_failed"
    fault = "author"


class RowTooLarge(FunctionError):
    """Memory had no room for the row, though it was run alone."""

    code = "row_too_large"


class DeviceLost(WakefulError):
    """The device that a model runs on has failed, and nothing more in this process will run on it;
    the replica is replaced.
    """

    status = 503
    code = "device_lost"
    fault = "operator"


class RowQuarantined(WakefulError):
    """The row brought down the process it ran in, more than once, and this version of the function
    does not run it for ten minutes; it is known by its call's bytes."""

    code = "row_quarantined"
    fault = "author"


class CallError(Exception):
    """A call that was not answered: what a test's client raises, and what a stage is given of a
    function that it calls (``Annotated[Call, "embed"]``). It is no ``WakefulError``: a stage that
    lets it pass is answered as the function was, and any other code as any exception.

    Attributes:
        status: HTTP's.
        code: what kind of error it is (``docs/errors.md``); empty if the server did not say.
        where: path into the call, such as ``[3].text``; empty where there is none.
        message: what is wrong, and how to mend it.
        function: that did not answer; empty: the message says all.
        is_retryable: the same call may be answered another time: the function was busy, asleep
            without room, or on its way elsewhere.
        retry_after_s: seconds after which that makes sense; None: it was not said.
        refusal: the function's own error; None: there is none, as over HTTP.
    """

    def __init__(
        self,
        status: int,
        code: str,
        where: str,
        message: str,
        *,
        function: str = "",
        is_retryable: bool | None = None,
        retry_after_s: float | None = None,
        refusal: WakefulError | None = None,
    ) -> None:
        at = f" at {where}" if where else ""
        super().__init__(f"{f'{function}: ' if function else ''}{status} {code}{at}: {message}")
        self.status = status
        self.code = code
        self.where = where
        self.message = message
        self.function = function
        self.is_retryable = status in RETRYABLE if is_retryable is None else is_retryable
        self.retry_after_s = retry_after_s
        self.refusal = refusal

    @classmethod
    def of(
        cls, error: WakefulError, function: str, *, where: str = "", has_time: bool = True
    ) -> CallError:
        """The error of a stage's call.

        Args:
            where: path into the call.
            has_time: the stage's own caller still waits.
        """
        return cls(
            error.status,
            error.code,
            where,
            error.message,
            function=function,
            is_retryable=has_time and error.status in RETRYABLE,
            retry_after_s=error.retry_after_s,
            refusal=error,
        )


RETRYABLE: Final = frozenset({429, 502, 503, 504})


def refuse_too_many(rows: int, max_rows: int) -> None:
    """Raises TooLarge for a request of more rows than the function takes."""
    if rows > max_rows:
        raise TooLarge(
            f"{rows} rows are more than the {max_rows} of limits.max_rows; send them in parts."
        )
