"""Wrong calls, by the numbers of the list that they were met in: what was sent, and what is to be
answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

IRIS = "/v2/models/iris"
ROW = '{"a":5,"b":3,"c":1,"d":0.2}'
X = '{"x":1}'


class Case(NamedTuple):
    """A call and its answer.

    Attributes:
        title: number and words.
        path: and the method, where it is no POST, before it.
        body, headers: that were sent; JSON unless the headers say otherwise.
        status, code, where: of the answer.
        words: of its message.
    """

    title: str
    path: str
    body: str | bytes
    status: int
    code: str
    where: str
    words: tuple[str, ...]
    headers: Mapping[str, str] = MappingProxyType({})
    files: Mapping[str, Any] = MappingProxyType({})


def at(function: str) -> str:
    """Where a function is called."""
    return f"/v2/models/{function}"


def wrong(
    title: str,
    path: str,
    body: Any,
    status: int,
    code: str,
    *words: str,
    where: str = "",
    **more: Any,
) -> Case:
    """A call that is refused, or fails."""
    return Case(title, path, body, status, code, where, words, **more)


def good(title: str, path: str, body: Any, *words: str, **more: Any) -> Case:
    """A call that is answered, with parts of the answer."""
    return Case(title, path, body, 200, "", "", words, **more)


PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4

FORM = {"content-type": "application/x-www-form-urlencoded"}

CASES = (
    good("00 right", IRIS, ROW, '"best"'),
    wrong("32 no JSON", IRIS, "{a:5}", 400, "malformed_body", "JSON"),
    wrong(
        "32 fields missing",
        IRIS,
        '{"a":5}',
        400,
        "missing_input",
        "'b' is missing",
        "a, b, c, d",
        where="b",
    ),
    wrong(
        "32 text for a number",
        IRIS,
        ROW.replace("5", '"5"', 1),
        400,
        "wrong_datatype",
        "valid number",
        "'5' is given, a string",
        where="a",
    ),
    wrong(
        "32 JSON without its content type",
        IRIS,
        ROW,
        415,
        "unsupported_media_type",
        "content-type: application/json",
        headers=FORM,
        where="content-type",
    ),
    good("32 GET", f"GET {IRIS}", "", '"inputs"'),
    wrong("32 an empty body", IRIS, "", 400, "malformed_body", "empty"),
    wrong("32 DELETE", f"DELETE {IRIS}", "", 405, "method_not_allowed", "POST"),
    wrong(
        "32 a misspelt function",
        at("irsi"),
        ROW,
        404,
        "not_found",
        "did you mean '/v2/models/iris'?",
    ),
    wrong("32 a path of one's own", "/iris", ROW, 404, "not_found", "/v2/models/iris"),
    wrong("32 /predict", "/predict", ROW, 404, "not_found", "called by POST at"),
    wrong(
        "32 KServe's first protocol",
        "/v1/models/iris:predict",
        ROW,
        404,
        "not_found",
        "called by POST at",
    ),
    wrong(
        "32 /predict below", f"{IRIS}/predict", ROW, 404, "not_found", "answers at /v2/models/iris"
    ),
    wrong(
        "32 text",
        IRIS,
        ROW,
        415,
        "unsupported_media_type",
        "application/json",
        headers={"content-type": "text/plain"},
        where="content-type",
    ),
    wrong(
        "32 XML",
        IRIS,
        "<a/>",
        415,
        "unsupported_media_type",
        "application/json",
        headers={"content-type": "application/xml"},
        where="content-type",
    ),
    good("32 no rows", IRIS, "[]", "[]"),
    good("32 rows of another kind", IRIS, "[1,2]", "a row is a JSON object"),
    wrong("32 a number", IRIS, "5", 400, "wrong_datatype", "object"),
    wrong("32 inputs", IRIS, '{"inputs": {"a":5}}', 400, "missing_input", "/infer", where="a"),
    wrong(
        "32 instances",
        IRIS,
        '{"instances": [{"a":5}]}',
        400,
        "missing_input",
        "the fields are a, b, c, d",
        where="a",
    ),
    wrong("32 NaN", IRIS, ROW.replace("0.2", "NaN"), 400, "malformed_body", "JSON"),
    wrong("32 rows at /infer", f"{IRIS}/infer", ROW, 400, "unknown_input", "without /infer"),
    wrong(
        "32 one tensor of four",
        f"{IRIS}/infer",
        '{"inputs":[{"name":"a","datatype":"FP32","shape":[1],"data":[5]}]}',
        400,
        "wrong_datatype",
        "FP64",
        where="inputs[0].datatype",
    ),
    good("40 a stage that prints", at("prints"), X, "1"),
    wrong("41 raises", at("raises"), X, 500, "function_failed", "'stage'"),
    wrong("42 an await that is missing", at("forgotten"), X, 500, "function_failed", "await"),
    wrong("44 sys.exit", at("exits"), X, 500, "function_failed", "'stage'"),
    wrong("47 another type", at("wrong_type"), X, 500, "function_failed", "'a'", "int is declared"),
    wrong(
        "48 no JSON in the answer",
        at("unserialisable"),
        X,
        500,
        "function_failed",
        "at a:",
        "object",
    ),
    wrong("56 too many rows", at("too_many"), X, 500, "function_failed", "it must give as many"),
    wrong(
        "62 a list for a list of lists",
        at("nested"),
        '{"x":[1,2]}',
        400,
        "wrong_datatype",
        "1 is given",
        where="x[0]",
    ),
    wrong(
        "62 text in it",
        at("nested"),
        '{"x":[[1,"a"]]}',
        400,
        "wrong_datatype",
        "'a' is given, a string",
        where="x[0][1]",
    ),
    wrong("72 more memory than there is", at("huge"), X, 500, "row_too_large", "'stage'"),
    wrong("73 recursion", at("deep"), X, 500, "function_failed", "'stage'"),
    wrong("74 a large body", at("length"), '{"x": "' + "a" * 5000 + '"}', 413, "too_large", "1000"),
    good("78 a default of another type", at("defaulted"), X, '{"stage":1}'),
    good("79 a default that is changed", at("mutable"), X, "1"),
    good("79 and once more", at("mutable"), X, "1"),
    good("81 an array for a list", at("listed"), X, '{"stage":[1,1]}'),
    wrong(
        "82 the fields of a model",
        at("modelled"),
        X,
        400,
        "missing_input",
        "the fields are req",
        where="req",
    ),
    good("82 a model", at("modelled"), '{"req":{"x":1}}', "1"),
    good("86 an object", at("anything"), '{"data":{"a":[1]}}', '{"a":[1]}'),
    wrong(
        "86 no object", at("anything"), X, 400, "missing_input", "the fields are data", where="data"
    ),
    wrong(
        "87b an unknown key of a TypedDict",
        at("placed"),
        '{"point":{"lat":1,"lon":2,"lng":3}}',
        400,
        "unknown_input",
        "'lon'",
        where="point.lng",
    ),
    wrong(
        "87b a secret is not repeated",
        at("keyed"),
        '{"password":"hunter2"}',
        400,
        "wrong_datatype",
        "valid integer",
        where="password",
    ),
    good(
        "90 a stream that fails",
        at("yields_then_raises"),
        '{"x":3}',
        "1",
        "function_failed",
        headers={"accept": "application/x-ndjson"},
    ),
    wrong("90 whole", at("yields_then_raises"), X, 500, "function_failed", "'stage'"),
    wrong(
        "92 an item of another type",
        at("yields_wrong"),
        X,
        500,
        "function_failed",
        "int is declared",
    ),
    wrong("97 rows to a stream", at("yields"), '[{"x":1},{"x":2}]', 400, "bad_request", "one row"),
    wrong(
        "97 a page",
        at("yields"),
        X,
        406,
        "not_acceptable",
        "text/event-stream",
        where="accept",
        headers={"accept": "text/html"},
    ),
    good("100 asyncio.run", at("runs_a_loop"), X, "1"),
    wrong(
        "123 none of two words",
        at("chosen"),
        '{"x":1,"mode":"c"}',
        400,
        "bad_request",
        "'a' or 'b'",
        "'c' is given",
        where="mode",
    ),
    wrong(
        "123 null",
        at("chosen"),
        '{"x":1,"mode":null}',
        400,
        "bad_request",
        "null is given",
        where="mode",
    ),
    wrong(
        "123 a float", at("chosen"), '{"x":1.5}', 400, "wrong_datatype", "1.5 is given", where="x"
    ),
    wrong(
        "123 text",
        at("chosen"),
        '{"x":"1"}',
        400,
        "wrong_datatype",
        "'1' is given, a string",
        where="x",
    ),
    wrong(
        "123 true", at("chosen"), '{"x":true}', 400, "wrong_datatype", "true is given", where="x"
    ),
    good("123 a form", at("chosen"), b"", '"b"', files={"x": (None, "1"), "mode": (None, "b")}),
    wrong(
        "123 a form with text",
        at("chosen"),
        b"",
        400,
        "wrong_datatype",
        "one",
        where="x",
        files={"x": (None, "one")},
    ),
    good("123 an encoded form", at("chosen"), "x=1", '"a"', headers=FORM),
    wrong(
        "145 a deadline that is over",
        at("same"),
        X,
        504,
        "deadline_exceeded",
        headers={"x-request-timeout-seconds": "0.0001"},
    ),
    good(
        "145 a deadline that is none",
        at("same"),
        X,
        "1",
        headers={"x-request-timeout-seconds": "abc"},
    ),
    wrong("46 longer than its deadline", at("waits"), X, 504, "deadline_exceeded"),
    wrong(
        "154 fields in the address",
        f"{at('same')}?x=1",
        X,
        400,
        "unknown_input",
        "x",
        where="query",
    ),
    wrong("154 /health", "GET /health", "", 404, "not_found", "/v2/health/live"),
    wrong("154 /healthz", "GET /healthz", "", 404, "not_found", "/v2/health/ready"),
    wrong("154 /v2/health", "GET /v2/health", "", 404, "not_found", "/v2/health/ready"),
    wrong("154 /v2/models", "GET /v2/models", "", 404, "not_found", "/v2/repository/index"),
    wrong("154 /generate", "GET /generate", "", 404, "not_found", "called by POST at"),
    wrong("154 /redoc", "GET /redoc", "", 404, "not_found", "/docs"),
    wrong("154 /openapi.yaml", "GET /openapi.yaml", "", 404, "not_found", "/openapi.json"),
    wrong(
        "155 chat completions", "/v1/chat/completions", "{}", 404, "not_found", "Text generation"
    ),
    wrong(
        "156 TorchServe's path",
        "/predictions/iris",
        ROW,
        404,
        "not_found",
        "POST at /v2/models/iris",
    ),
    wrong("156 SageMaker's path", "/invocations", ROW, 404, "not_found", "called by POST at"),
    wrong(
        "157 a header that is missing",
        at("told"),
        X,
        400,
        "missing_input",
        "x-tenant",
        where="headers.x-tenant",
    ),
    wrong(
        "150 a picture as curl sends a file",
        at("size"),
        PNG,
        415,
        "unsupported_media_type",
        "is a PNG picture",
        "-F image=@FILE",
        where="content-type",
        headers=FORM,
    ),
    wrong(
        "150 where it is taken as it is",
        at("taken"),
        PNG,
        415,
        "unsupported_media_type",
        "-H 'content-type: image/png' --data-binary @FILE",
        where="content-type",
        headers=FORM,
    ),
    wrong(
        "150 under another field's name",
        at("size"),
        b"",
        400,
        "unknown_input",
        "'file' is a PNG picture",
        "the fields are image",
        where="file",
        files={"file": ("x.png", PNG, "image/png")},
    ),
    good("150 in its field", at("size"), b"", "1032", files={"image": ("x.png", PNG, "image/png")}),
    wrong(
        "150 with its type, which is not accepted",
        at("size"),
        PNG,
        415,
        "unsupported_media_type",
        "-F image=@FILE",
        "`accepts: [image/png]`",
        where="content-type",
        headers={"content-type": "image/png"},
    ),
    good("150 with its type", at("taken"), PNG, "1032", headers={"content-type": "image/png"}),
    wrong(
        "150b its name in JSON",
        at("size"),
        '{"image":"sample.png"}',
        400,
        "wrong_datatype",
        "base64 -w0",
        where="image",
    ),
    wrong(
        "150b a data URL",
        at("size"),
        '{"image":"data:image/png;base64,iVBORw0KGgo="}',
        400,
        "wrong_datatype",
        "before the comma",
        where="image",
    ),
    good("160 a file as it is", at("picture"), X, "PNG123", headers={"accept": "image/png"}),
    good("160 a file in JSON", at("picture"), X, "iVBORzEyMw=="),
    good(
        "121 elements as they are done",
        at("elements"),
        '{"x":3}',
        "4",
        headers={"accept": "application/x-ndjson"},
    ),
    good("175 a call from within a stage", at("asks"), '{"x":4}', "9"),
    wrong("61 input()", at("asks_at_the_terminal"), X, 500, "function_failed", "'stage'"),
    good("122 a prefix of its own", "/predict/here", X, '"stage":1'),
    wrong("122 and not the usual one", at("moved"), X, 404, "not_found", "answers here"),
    good(
        "124 a key that nothing asks for", at("same"), X, "1", headers={"authorization": "Bearer x"}
    ),
    Case(
        "161 the page of a browser",
        "GET /",
        "",
        303,
        "",
        "",
        (),
        {"accept": "text/html,application/xhtml+xml"},
    ),
    good(
        "95 a stream that does not end",
        at("swallows"),
        X,
        "1",
        headers={"accept": "application/x-ndjson"},
    ),
)
