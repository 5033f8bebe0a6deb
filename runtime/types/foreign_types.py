"""What a stage takes and gives instead of types of other libraries that no JSON becomes: a picture,
a table, the request itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, get_args, get_origin


class Instead(NamedTuple):
    """What to write.

    Attributes:
        take: for a parameter, with ``{name}`` for its name.
        give: for an answer.
    """

    take: str
    give: str


_PICTURE: Final = Instead(
    "Take `{name}: bytes` and open it in the stage: `Image.open(io.BytesIO({name}))`. A field of"
    " bytes comes as base64 in JSON, as a file in a form, or, with `accepts: [image/*]`, as the"
    " body",
    'Save it to an `io.BytesIO`, and give its bytes as `Annotated[bytes, MediaType("image/png")]`',
)
_REQUEST: Final = Instead(
    "A stage has no request: what it takes are the fields of the JSON body, `text: str`; a header"
    ' is `Annotated[str, Header("x-name")]`, the request\'s id `RequestId`',
    "Give the value itself, and raise RequestError for a status",
)
_FILE: Final = Instead(
    "Take `{name}: bytes`, which comes as a file in a form (`-F {name}=@FILE`), as base64 in JSON,"
    " or, with `accepts:`, as the body",
    "Give bytes",
)
_TABLE: Final = Instead(
    "Take rows: `{name}: list[Row]` with `class Row(TypedDict)`, or `{name}: dict[str,"
    " list[float]]`, and make the table in the stage",
    "Give `list[Row]` with `class Row(TypedDict)`: `table.to_dict('records')`",
)
_TENSOR: Final = Instead(
    "Take an array, `{name}: NDArray[np.float32]`, and make the tensor in the stage:"
    " `torch.from_numpy({name})`",
    "Give an array: `tensor.numpy()`",
)

_INSTEAD: Final[Mapping[tuple[str, str], Instead]] = {
    ("PIL", "Image"): _PICTURE,
    ("starlette", "Request"): _REQUEST,
    ("starlette", "Response"): _REQUEST,
    ("flask", "Request"): _REQUEST,
    ("werkzeug", "Request"): _REQUEST,
    ("starlette", "UploadFile"): _FILE,
    ("fastapi", "UploadFile"): _FILE,
    ("_io", "BytesIO"): _FILE,
    ("io", "BytesIO"): _FILE,
    ("pandas", "DataFrame"): _TABLE,
    ("pandas", "Series"): _TABLE,
    ("polars", "DataFrame"): _TABLE,
    ("narwhals", "DataFrame"): _TABLE,
    ("pyarrow", "Table"): _TABLE,
    ("torch", "Tensor"): _TENSOR,
    ("tensorflow", "Tensor"): Instead(
        _TENSOR.take.replace("torch.from_numpy", "tf.constant"), _TENSOR.give
    ),
}
"""By the top-level package and the name of a class, or of one that it inherits from."""


def instead_of(annotation: Any) -> Instead | None:
    """What to write for an annotation, or for a type within it; None: nothing is known of it."""
    for part in (get_origin(annotation), *get_args(annotation)):
        if part is not None and (found := instead_of(part)) is not None:
            return found
    if not isinstance(annotation, type):
        return None
    names = ((base.__module__.partition(".")[0], base.__name__) for base in annotation.__mro__)
    return next((_INSTEAD[name] for name in names if name in _INSTEAD), None)
