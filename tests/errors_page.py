"""docs/errors.md, made from the classes that raise."""

from __future__ import annotations

import inspect

from runtime import errors
from runtime.errors import WakefulError

HEAD = """\
# Errors

Every URL answers an error in one form, with the status of its kind:

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
    return HEAD + "\n".join(rows) + "\n"


def _order(kind: type[WakefulError]) -> tuple[int, str]:
    return kind.status, kind.code


def _meaning(kind: type[WakefulError]) -> str:
    """The first sentence of its docstring; the root itself is what a client sees of anything
    unforeseen.
    """
    if kind is WakefulError:
        return "Something unforeseen failed here; the log has it under the request id."
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
