"""The pure modules of "Try it", in a browser: schemas to fields, what was typed to a request, answers
to what is shown, `Server-Timing` to a bar, calls to programs.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from runtime.http import catalogue
from tests import browser

ASSETS = Path(catalogue.__file__).parent / "console" / "assets"

PURE = ("answers", "calls", "fields", "programs", "sound", "streams", "timing")
"""They import each other alone, and no element of a page."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.CHROMIUM is None, reason="needs the Debian package chromium"),
]


class _QuietHandler(SimpleHTTPRequestHandler):
    """Serves the modules as they lie there."""

    def log_message(self, *words: object) -> None:
        """Nothing is printed."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    """A page on which `m` has what all modules export."""
    handler = functools.partial(_QuietHandler, directory=str(ASSETS))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            with browser.opened(f"{url}/try/try.css", tmp_path_factory.mktemp("profile")) as opened:
                opened.wait_for(f"location.href.startsWith({json.dumps(url)})")
                names = json.dumps([f"{url}/try/{name}.js" for name in PURE])
                opened.evaluate(
                    f"Promise.all({names}.map((name) => import(name)))"
                    ".then((all) => { window.m = Object.assign({}, ...all); })"
                )
                opened.wait_for("!!window.m")
                yield opened
        finally:
            server.shutdown()
            thread.join()


def value(page: browser.Page, expression: str) -> Any:
    """What an expression comes to, as JSON has it."""
    text = page.evaluate(f"JSON.stringify({expression}) ?? 'null'")
    return json.loads(text)


def waited(page: browser.Page, promise: str) -> Any:
    """What a promise comes to."""
    page.evaluate(f"window.done = null; ({promise}).then((it) => {{ window.done = [it]; }})")
    page.wait_for("window.done !== null")
    return page.evaluate("window.done[0]")


def test_a_schema_to_fields(page):
    """Each type that a form has a control for; anything deeper is JSON."""
    schema = {
        "type": "object",
        "required": ["text", "image", "deep", "which"],
        "$defs": {"Colour": {"enum": ["red", "blue"], "type": "string"}},
        "properties": {
            "text": {"type": "string", "maxLength": 500, "description": "Words."},
            "word": {"type": "string", "maxLength": 20, "default": "x"},
            "secret": {"type": "string", "format": "password", "writeOnly": True},
            "k": {"type": "integer", "minimum": 1, "default": 5},
            "share": {"anyOf": [{"type": "number"}, {"type": "null"}]},
            "flag": {"type": ["boolean", "null"]},
            "which": {"$ref": "#/$defs/Colour"},
            "only": {"const": 3},
            "image": {"type": "string", "format": "byte", "contentEncoding": "base64"},
            "sounds": {"type": "array", "items": {"type": "string", "contentEncoding": "base64"}},
            "sales": {"type": "array", "items": {"type": "number"}},
            "tags": {"type": "array", "items": {"type": "string"}},
            "deep": {"type": "object", "properties": {}},
            "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            "matrix": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
            "tree": {"$ref": "#/$defs/Missing"},
            "day": {"type": "string", "format": "date"},
        },
    }
    fields = value(
        page, f"m.fieldsOf({json.dumps(schema)}, {{takes: ['image/*'], rawField: 'image'}})"
    )
    kinds = {field["name"]: field["kind"] for field in fields}
    assert kinds == {
        "text": "text",
        "word": "text",
        "secret": "text",
        "k": "number",
        "share": "number",
        "flag": "boolean",
        "which": "choice",
        "only": "choice",
        "image": "file",
        "sounds": "file",
        "sales": "list",
        "tags": "list",
        "deep": "json",
        "either": "json",
        "matrix": "json",
        "tree": "json",
        "day": "text",
    }
    by = {field["name"]: field for field in fields}
    assert {name for name, field in by.items() if field["isRequired"]} == set(schema["required"])
    assert [name for name, field in by.items() if field["mayBeNull"]] == ["share", "flag"]
    assert (by["image"]["media"], by["sounds"]["media"], by["sounds"]["isMany"]) == (
        "picture",
        "sound",
        True,
    )
    assert (by["text"]["isLong"], by["word"]["isLong"], by["secret"]["isSecret"]) == (
        True,
        False,
        True,
    )
    assert by["which"]["options"][1] == {"label": "blue", "json": '"blue"'}
    assert by["k"]["standard"] == 5
    assert by["k"]["isInteger"]
    for unknown in ("null", "{}", "{type: 'object'}"):
        assert value(page, f"m.fieldsOf({unknown})") is None


FIELDS = {
    "text": "{kind: 'text', isRequired: true, maxLength: 3}",
    "optional": "{kind: 'text', isRequired: false}",
    "integer": "{kind: 'number', isInteger: true, isRequired: true, minimum: 0, maximum: 9e18}",
    "number": "{kind: 'number', isRequired: true}",
    "nullable": "{kind: 'number', isRequired: true, mayBeNull: true}",
    "numbers": "{kind: 'list', of: 'number', isRequired: true}",
    "integers": "{kind: 'list', of: 'number', isInteger: true, isRequired: false}",
    "lines": "{kind: 'list', of: 'text', isRequired: true}",
    "json": "{kind: 'json', isRequired: true}",
    "choice": "{kind: 'choice', isRequired: true}",
}


@pytest.mark.parametrize(
    ("field", "typed", "expected"),
    [
        ("text", "aä☃", {"json": '"aä☃"'}),
        ("text", "😀😀😀", {"json": '"😀😀😀"'}),
        ("text", "", {"json": '""'}),
        ("text", "four", "It has 4 characters; 3 at most are taken."),
        ("optional", "", {"isAbsent": True}),
        ("optional", " ", {"json": '" "'}),
        # more than a number of JavaScript has
        ("integer", "1234567890123456789", {"json": "1234567890123456789"}),
        ("integer", " 7 ", {"json": "7"}),
        ("integer", "7.5", "A whole number is wanted."),
        ("integer", "0x7", "A whole number is wanted."),
        ("integer", "-1", "0 at least."),
        ("integer", "", "A value is wanted."),
        ("number", "1e-3", {"json": "1e-3"}),
        ("number", "1,5", "A number is wanted, such as 0.5."),
        ("number", "NaN", "A number is wanted, such as 0.5."),
        ("nullable", "", {"json": "null"}),
        ("numbers", "1, 2.5;3\n4", {"json": "[1, 2.5, 3, 4]"}),
        ("numbers", "[1, null]", {"json": "[1, null]"}),
        ("numbers", "1, two", '"two" is no number of the list.'),
        ("numbers", "", {"json": "[]"}),
        ("integers", "", {"isAbsent": True}),
        ("integers", "1.5", '"1.5" is no number of the list.'),
        ("lines", "a b\n\n c ", {"json": '["a b","c"]'}),
        ("lines", '["[", ""]', {"json": '["[", ""]'}),
        ("json", ' {"a": [1]} ', {"json": '{"a": [1]}'}),
        ("choice", '"red"', {"json": '"red"'}),
    ],
)
def test_what_was_typed_to_json(page, field, typed, expected):
    """As texts of JSON; what a field cannot stand for is said in words."""
    found = value(page, f"m.readField({FIELDS[field]}, {json.dumps(typed)})")
    assert found == ({"fault": expected} if isinstance(expected, str) else expected)


def test_json_that_is_none(page):
    """The reader's own words, and no request."""
    assert value(page, "m.readField({kind: 'json'}, '{')")["fault"].startswith("That is no JSON: ")
    joined = value(page, """m.joinRequest({'a"b': '1', c: '[2]'})""")
    assert joined == '{"a\\"b": 1, "c": [2]}'


LONG, WORD = "x" * 40, "x" * 30
PRETTY = f'{{\n  "a": ["{LONG}",{{"b":1}}],\n  "c": "{WORD}"\n}}'
"""JSON as it is written to be edited."""


@pytest.mark.parametrize(
    ("field", "given", "text"),
    [
        ("numbers", [1, 2.5], "1, 2.5"),
        ("lines", ["a", "b"], "a\nb"),
        ("lines", ["a\nb"], '["a\\nb"]'),
        ("lines", ["[a", "b"], '["[a","b"]'),
        ("json", {"a": 1}, '{"a":1}'),
        ("json", {"a": ["x" * 40, {"b": 1}], "c": "x" * 30}, PRETTY),
        ("choice", "red", '"red"'),
        ("number", 1.5, "1.5"),
        ("nullable", None, ""),
        ("text", "a\nb", "a\nb"),
    ],
)
def test_an_example_is_typed_into_a_field(page, field, given, text):
    """And is read as what it was."""
    assert value(page, f"m.textOf({FIELDS[field]}, {json.dumps(given)})") == text
    if field != "text":
        read = value(page, f"m.readField({FIELDS[field]}, {json.dumps(text)})")
        assert json.loads(read["json"]) == given


PNG = "new File(['x'], 'a b.png', {type: 'image/png'})"
OTHER = "new File(['x'], 'x.bin', {type: ''})"


@pytest.mark.parametrize(
    ("takes", "texts", "files", "ways"),
    [
        (["application/json"], "{a: '1'}", "{}", ["json", "form"]),
        (["application/json"], "{}", f"{{image: [{PNG}]}}", ["form", "json"]),
        (["application/json", "image/*"], "{}", f"{{image: [{PNG}]}}", ["raw", "form", "json"]),
        (["application/json", "*/*"], "{}", f"{{image: [{OTHER}]}}", ["raw", "form", "json"]),
        (["application/json", "image/*"], "{}", f"{{image: [{OTHER}]}}", ["form", "json"]),
        # a body fills one field, and another was typed
        (["image/*"], "{k: '1'}", f"{{image: [{PNG}]}}", ["form", "json"]),
        (["image/*"], "{}", f"{{image: [{PNG}], mask: [{PNG}]}}", ["form", "json"]),
    ],
)
def test_how_a_call_may_be_sent(page, takes, texts, files, ways):
    """The best way first."""
    given = (
        f"{{takes: {json.dumps(takes)}, raw_field: 'image'}}, {{texts: {texts}, files: {files}}}"
    )
    assert value(page, f"m.waysOf({given})") == ways


FORM = "[{name: 'image', kind: 'file'}, {name: 'k', kind: 'number'}, {name: 'note', kind: 'text'}]"
READ = f"{{texts: {{k: '3', note: '\"it\\'s\"'}}, files: {{image: [{PNG}]}}}}"


def test_the_body_of_each_way(page):
    """Files as they are; texts of a form without the quotes of JSON; in JSON, base64."""
    form = value(page, f"m.bodyOf('form', {FORM}, {READ}, 'image')")
    assert [{**part, "file": "file" in part} for part in form["parts"]] == [
        {"name": "image", "file": True},
        {"name": "k", "text": "3", "file": False},
        {"name": "note", "text": "it's", "file": False},
    ]
    call = f"{{headers: [['x-a', 'b']], body: m.bodyOf('json', {FORM}, {READ}, 'image')}}"
    sent = waited(page, f"m.requestOf({call}).then((it) => it.body)")
    assert json.loads(sent) == {"k": 3, "note": "it's", "image": "eA=="}
    raw = f"{{headers: [], body: m.bodyOf('raw', {FORM}, {READ}, 'image')}}"
    kind = waited(page, f"m.requestOf({raw}).then((it) => it.headers.get('content-type'))")
    assert kind == "image/png"
    many = "[{name: 'files', kind: 'file', isMany: true}]"
    several = f"m.bodyOf('json', {many}, {{texts: {{}}, files: {{files: [{PNG}, {PNG}]}}}}, '')"
    sent = waited(page, f"m.requestOf({{headers: [], body: {several}}}).then((it) => it.body)")
    assert json.loads(sent) == {"files": ["eA==", "eA=="]}


def test_base64_of_any_length(page):
    """Both ways, across the pieces in which it is made."""
    for size in (0, 1, 2, 3, 32768, 100001):
        both = (
            f"m.base64Of(new Blob([new Uint8Array({size}).fill(200)]))"
            ".then((text) => m.fileFrom(text, 'n', '').arrayBuffer())"
            ".then((back) => [back.byteLength, new Uint8Array(back).every((one) => one === 200)])"
        )
        assert waited(page, both) == [size, True]
    assert value(page, "m.fileFrom('%', 'n', '')") is None


@pytest.mark.parametrize(
    ("where", "name"),
    [("k", "k"), ("[2].k", "k"), ("inputs[0].k.deep", "k"), ("other", None), ("", None)],
)
def test_the_field_of_an_error(page, where, name):
    """By its place in the request."""
    assert value(page, f"m.fieldAt({json.dumps(where)}, [{{name: 'k'}}])") == name


def kinds(block: dict[str, Any]) -> Any:
    """The kinds of a block, and of those within."""
    if block["kind"] == "fields":
        return {entry["name"]: kinds(entry["block"]) for entry in block["entries"]}
    return [kinds(one) for one in block["blocks"]] if block["kind"] == "list" else block["kind"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"labels": [{"label": "cat", "score": 0.9}]}, {"labels": "scores"}),
        ({"scores": {"rude": 0.9, "polite": 0.25}}, {"scores": "scores"}),
        ({"a": 1, "b": 0}, {"a": "value", "b": "value"}),
        ([{"text": "x", "box": [1, 2, 3, 4], "confidence": 0.5}], "table"),
        ([{"label": "x", "score": 1.5}], "table"),
        ({"embedding": [0.5] * 384}, {"embedding": "vector"}),
        ({"box": [1, 2, 3]}, {"box": "value"}),
        ([[1, 2], [3, 4]], "table"),
        ([[1] * 50] * 50, "matrix"),
        ([[1, 2], [3]], ["value", "value"]),
        ({"deep": [{"a": {"b": 1}}]}, {"deep": [{"a": {"b": "value"}}]}),
        (
            {"text": "x" * 100, "short": "x", "none": None},
            {"text": "text", "short": "value", "none": "value"},
        ),
        ({"mark": "iVBORw0KGgo" + "A" * 80}, {"mark": "file"}),
        ({"mark": "iVBORw0KGgo is no picture " * 9}, {"mark": "text"}),
        ([], "value"),
        (3, "value"),
        ("x", "value"),
        ([{"a": 1}, "x"], [{"a": "value"}, "value"]),
    ],
)
def test_an_answer_to_blocks(page, answer, expected):
    """By its values; a shape that is not known is shown value by value."""
    assert kinds(value(page, f"m.blockOf({json.dumps(answer)})")) == expected


def test_large_answers_are_cut(page):
    """What is left out is counted, and long vectors are drawn in part."""
    table = value(page, "m.blockOf(Array.from({length: 1000}, (_, n) => ({n, word: 'x'})))")
    assert (len(table["rows"]), table["more"], table["columns"]) == (200, 800, ["n", "word"])
    vector = value(page, "m.blockOf(Array.from({length: 5000}, (_, n) => n))")
    assert (vector["length"], vector["maximum"], len(vector["values"])) == (5000, 4999, 512)
    deep = value(page, "m.blockOf([[[[[[[[{a: 1}]]]]]]]])")
    assert '"a": 1' in json.dumps(deep).replace("\\", "")
    assert value(page, "m.blockOf(new Array(20).fill(null))")["kind"] == "list"


BOXES = [
    ({"lines": [{"text": "a", "box": [1, 2, 3, 4], "confidence": 0.5}]}, [[1, 2], [3, 4]], False),
    (
        [{"label": "a", "box": {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}}],
        [[1, 2], [3, 4]],
        False,
    ),
    ({"x": 1, "y": 2, "width": 2, "height": 2}, [[1, 2], [3, 4]], False),
    ({"found": {"bbox": [0.1, 0.2, 0.3, 0.4]}}, [[0.1, 0.2], [0.3, 0.4]], True),
    ([{"polygon": [[1, 2], [9, 2], [3, 4]]}], [[1, 2], [3, 4]], False),
]


@pytest.mark.parametrize(("answer", "ends", "is_share"), BOXES)
def test_boxes_of_an_answer(page, answer, ends, is_share):
    """In the forms that models have them; the first corner and the one opposite."""
    (box,) = value(page, f"m.boxesOf({json.dumps(answer)})")
    assert [box["points"][0], box["points"][2]] == ends
    assert box["isShare"] is is_share


@pytest.mark.parametrize(
    "answer",
    [None, 3, "x", {"box": "x"}, {"box": [1, 2]}, {"a": [1, 2, 3, 4]}, {"points": [[1], [2], [3]]}],
)
def test_what_has_no_boxes(page, answer):
    """Four numbers alone are no box."""
    assert value(page, f"m.boxesOf({json.dumps(answer)})") == []


STREAM = 'data: {"n": 0}\n\n:\n\ndata: {"n":\ndata: 1}\n\nevent: error\ndata: {"error": "no", "code": "x"}\n\n'
LINES = '{"n": 0}\n\n{"n": 1}\n{"error": "no", "code": "x"}'


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("text/event-stream; charset=utf-8", STREAM),
        ("text/event-stream", STREAM.replace("\n", "\r\n")),
        ("application/x-ndjson", LINES),
    ],
)
def test_streams_however_they_are_cut(page, kind, text, size):
    """Items, and an error in place of the next."""
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    read = (
        f"(() => {{ const reader = m.readerOf({json.dumps(kind)});"
        f" return [...{json.dumps(pieces)}.flatMap((one) => reader.feed(one)), ...reader.end()]; }})()"
    )
    assert value(page, read) == [
        {"kind": "item", "value": {"n": 0}},
        {"kind": "item", "value": {"n": 1}},
        {"kind": "error", "value": {"error": "no", "code": "x"}},
    ]


def test_the_end_of_a_stream_and_what_is_none(page):
    """`event: done` has the time of all items; JSON comes whole."""
    (done,) = value(
        page, """m.readerOf("text/event-stream").feed('event: done\\ndata: {"items": 2}\\n\\n')"""
    )
    assert done == {"kind": "done", "value": {"items": 2}}
    (text,) = value(page, """m.readerOf("text/event-stream").feed('data: [DONE]\\n\\n')""")
    assert text == {"kind": "text", "value": "[DONE]"}
    assert value(page, "m.readerOf('application/json')") is None
    assert value(page, "m.readerOf(null)") is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([{"text": "a"}, {"text": "b"}], "ab"),
        (["a", "b"], "ab"),
        ([{"token": "a", "index": 0}], "a"),
        ([{"text": "a", "box": [], "score": 1}], None),
        ([{"text": "a"}, {"n": 1}], None),
        ([{"n": 1}], None),
        ([None], None),
        ([], None),
    ],
)
def test_pieces_of_a_text(page, values, expected):
    """Joined where each item is one."""
    assert value(page, f"m.joinedText({json.dumps(values)})") == expected


@pytest.mark.parametrize(
    ("header", "whole_ms", "parts", "total_ms"),
    [
        ("", 5, {"network": 5}, None),
        (
            "queue;dur=1.000, batch;dur=0.000, model;dur=2.000, total;dur=4.000",
            10,
            {"queue": 1, "model": 2, "other": 1, "network": 6},
            4,
        ),
        # its total begins once it is awake
        (
            "model;dur=2, total;dur=3, wake;dur=90",
            100,
            {"wake": 90, "model": 2, "other": 1, "network": 7},
            93,
        ),
        # rows of one call are computed next to each other
        ("model;dur=8, total;dur=4", 5, {"model": 8, "network": 1}, 4),
        # a clock that is coarser than the server's
        ("total;dur=4", 3, {"other": 4, "network": 0}, 4),
        ('a;desc="x, y;dur=3";dur=7, total;dur=1', 2, {"other": 1, "network": 1}, 1),
        ("total;dur=x, model", 2, {"network": 2}, None),
    ],
)
def test_the_bar_of_a_call(page, header, whole_ms, parts, total_ms):
    """Its parts, what they leave of the server's time, and the way there and back."""
    bar = value(page, f"m.barOf({json.dumps(header)}, {whole_ms})")
    assert {part["name"]: part["ms"] for part in bar["parts"]} == parts
    assert bar["totalMs"] == total_ms
    assert sum(part["share"] for part in bar["parts"]) <= 1.0000001
    assert bar["cold"] == []


def test_what_a_wake_consisted_of(page):
    """Of the call that woke the function."""
    bar = value(page, "m.barOf('total;dur=1, cold;dur=9, cold_warm_up;dur=4', 20)")
    assert bar["cold"] == [{"name": "warm_up", "ms": 4}]
    assert value(page, "m.barOf('', 0)") is None


JSON_CALL = """{headers: [['accept', 'text/event-stream'], ['x-token', 'abc']],
    body: {kind: 'json', texts: {text: '"it\\'s é"', n: '12345678901234567890', on: 'true', pin: '"1234"'},
        files: {}, many: []}}"""
OPTIONS = "{url: 'http://h/v2/models/f', hasKey: true, streams: true, secrets: ['pin']}"


def test_a_call_as_curl(page):
    """A shell gets each text as it is; keys and secrets are variables."""
    line = value(page, f"m.curlOf({JSON_CALL}, {OPTIONS})")
    assert line == (
        "curl -N http://h/v2/models/f -H \"x-api-key: $KEY\" -H 'accept: text/event-stream'"
        " -H \"x-token: $X_TOKEN\" -H 'content-type: application/json'"
        ' -d \'{"text": "it\'\\\'\'s é", "n": 12345678901234567890, "on": true, "pin": "\'"$PIN"\'"}\''
    )
    raw = f"{{headers: [], body: {{kind: 'raw', type: 'image/png', file: {PNG}}}}}"
    assert value(page, f"m.curlOf({raw}, {{url: 'http://h/f', output: 'f-answer.png'}})") == (
        "curl http://h/f -H 'content-type: image/png' --data-binary '@a b.png' -o f-answer.png"
    )
    form = f"{{headers: [], body: m.bodyOf('form', {FORM}, {READ}, 'image')}}"
    assert value(page, f"m.curlOf({form}, {{url: 'http://h/f'}})") == (
        "curl http://h/f -F 'image=@\"a b.png\"' -F k=3 --form-string 'note=it'\\''s'"
    )


def test_a_call_in_python(page):
    """It compiles, and what is not JSON's is Python's."""
    text = value(page, f"m.pythonProgram({JSON_CALL}, {OPTIONS})")
    compile(text, "call.py", "exec")
    assert '"text": "it\'s é"' in text
    assert '"on": True' in text
    assert '"pin": os.environ["PIN"]' in text
    assert '"x-token": os.environ["X_TOKEN"]' in text
    assert '"x-api-key": os.environ["KEY"]' in text
    assert "abc" not in text
    assert '1234"' not in text
    assert "httpx.stream(" in text
    for body in ("raw", "form", "json"):
        call = f"{{headers: [], body: m.bodyOf('{body}', {FORM}, {READ}, 'image')}}"
        text = value(page, f"m.pythonProgram({call}, {{url: 'http://h/f', output: 'a.png'}})")
        compile(text, "call.py", "exec")
        assert 'Path("a b.png").read_bytes()' in text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"a": [True, False, None, "true", 'say "null"', "a/b", "😀"]}, None),
        ("\\ud83d\\ude00", "\\ud83d\\ude00"),
    ],
)
def test_json_as_a_literal_of_python(page, given, expected):
    """It is evaluated to the same value."""
    text = value(page, f"m.pythonOf({json.dumps(json.dumps(given))})")
    assert eval(text) == (expected or given)


def test_a_call_by_openai(page):
    """Of a task that has such a route, with the text that was typed."""
    text = value(
        page,
        f"m.openaiProgram({JSON_CALL}, {{base: 'http://h/', name: 'f', task: 'embedding', hasKey: true}})",
    )
    compile(text, "call.py", "exec")
    assert 'client.embeddings.create(model="f", input="it\'s é")' in text
    assert 'base_url="http://h/v1", api_key=os.environ["KEY"]' in text
    other = "{base: 'http://h/', name: 'f', task: 'text-classification'}"
    assert "client.moderations.create" in value(page, f"m.openaiProgram({JSON_CALL}, {other})")
    for task in ("'rerank'", "null"):
        options = f"{{base: 'http://h/', name: 'f', task: {task}}}"
        assert value(page, f"m.openaiProgram({JSON_CALL}, {options})") is None


def test_sound_as_a_wav_file(page):
    """One channel of 16 bits, as `listen` takes it; what is beyond the bounds is cut."""
    import base64
    import io
    import wave

    made = "m.wavOf(new Float32Array([0, 1, -1, 7, 0.5]), 16000)"
    text = waited(page, f"m.base64Of(new Blob([{made}]))")
    with wave.open(io.BytesIO(base64.b64decode(text))) as sound:
        assert sound.getparams()[:4] == (1, 2, 16000, 5)
        samples = memoryview(sound.readframes(5)).cast("h").tolist()
    assert samples == [0, 32767, -32767, 32767, 16384]
    mixed = "Array.from(m.mixDown([new Float32Array([1, 0]), new Float32Array([0, 0.5])]))"
    assert value(page, mixed) == [0.5, 0.25]
    assert value(
        page, "Array.from(m.joinPieces([new Float32Array(2), new Float32Array([1])]))"
    ) == [0, 0, 1]


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("A WAV file of 16 kHz, one channel", 16000),
        ("22.05 kHz", 22050),
        ("8,000 Hz", 8000),
        ("at 3 Hz", None),
        ("", None),
    ],
)
def test_the_rate_that_a_description_names(page, text, rate):
    """In any of the ways in which people write it."""
    assert value(page, f"m.rateIn({json.dumps(text)})") == rate
