"""docs/errors.md, made from the classes that raise."""

from __future__ import annotations

import inspect

from runtime import errors
from runtime.errors import WakefulError

HEAD = """\
# Errors

Every URL answers an error in one form, with the status of its kind; below `/v1/` it has [OpenAI's](routes.md), also where a body does not arrive, a
deadline passes or the process ends. What is no HTTP/1.1 is answered in this form too, with an id that the log has:

```json
{"error": "what, where, how to fix", "code": "wrong_shape", "where": "inputs[0].shape", "request_id": "5f86f590993a4cbd"}
```

`code` is stable and meant for programs; `where` is a path into the request, empty when there is none; `request_id` is the caller's
`x-request-id`, or one made here, and stands beside the traceback in the function's log (`wakeful logs NAME`). 429 and 503 carry
`Retry-After`. In the answer to an array of rows, the element of a row that failed is this object with its `status` beside, and so is the
error that ends a stream. Whose fault it is: the caller's request, the author's function, the operator's machine, load, or something
that a stage asked (`upstream`). A stage may refuse a row with another status from 400 to 499 than `bad_request` has
([stages](stages.md#refusing-a-row)).

| status | `code` | fault | meaning |
|---|---|---|---|
"""

TAIL = """\

## What HAProxy answers

Under `up` HAProxy answers some requests itself, in the same form: 404 where nothing is declared, 408, 503 with `Retry-After` while no replica can be
reached or HAProxy has just started, `draining`, 413 and 429 of what waits for a replica. Where calls need [keys](keys.md#what-a-key-opens), `wakeful run`
has it too, and it answers 401 `unauthorized`, 403 `forbidden` and 429 `key_limit`. An id that HAProxy makes, where the caller sent none, stands in no log. Three answers are HAProxy's own pages, without the form, an id
and CORS headers, since it writes them before it has a request: **400** for what is not HTTP/1.1 (a damaged head, two `Host`, more than 100 headers, a
head beyond the buffer), **408** for a head that is not whole after 30 s, and **422** for a `Transfer-Encoding` that it does not know. No HTTP library
sends these. A client that closes its side of the connection before it has the answer counts as one that has left (`nc -N`): it gets no answer, or 400.

One fault has no answer: a call of more than 64 KiB (head and body), which HAProxy cannot send again, whose replica dies with it on a connection that the client has used before.
HAProxy closes the connection, and the client's library says so (`RemoteProtocolError`, `Connection reset`, `Empty reply from server`); on a new connection it is 503 (`unavailable`).
The call may have been computed: call again if it may be twice. Shorter calls are sent again, and those of a function with `limits: {replay: false}` are answered 503 on any connection.

A caller's `x-request-id` with other characters than printable ASCII is none: under `up` HAProxy takes it away, and an id is made.
"""


def page() -> str:
    """The page; kinds without a status of their own (a wrong declaration, a model that cannot be
    fetched) never reach a caller.
    """
    kinds = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, WakefulError)
    ]
    kinds = [kind for kind in kinds if kind not in (errors.DeclarationError, errors.StoreError)]
    rows = [
        f"| {kind.status} | `{kind.code}` | {kind.fault} | {_meaning(kind)} |"
        for kind in sorted(kinds, key=_order)
    ]
    return HEAD + "\n".join(rows) + "\n" + TAIL


def _order(kind: type[WakefulError]) -> tuple[int, str]:
    return kind.status, kind.code


def _meaning(kind: type[WakefulError]) -> str:
    """The first sentence of its docstring; the root itself is what a client sees of anything
    unforeseen.
    """
    if kind is WakefulError:
        return "Something unforeseen failed here; the log has it under the request id."
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
