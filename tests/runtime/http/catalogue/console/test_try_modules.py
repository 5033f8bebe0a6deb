"""The pure modules of "Try it", in a browser: schemas to fields, what was typed to a request, answers
to what is shown, `Server-Timing` to a bar, calls to programs.
"""

from __future__ import annotations

import json
import re
import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

from tests import browser
from tests.runtime.http.catalogue.console.modules_page import ModulesPage, value

PURE = ("answers", "calls", "fields", "programs", "sound", "streams", "timing")
"""They have no element of a page."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.CHROMIUM is None, reason="needs the Debian package chromium"),
]


@pytest.fixture(scope="module")
def page(modules: ModulesPage) -> browser.Page:
    """A page on which `m` has what all modules export."""
    return modules.begin(*(f"try/{name}.js" for name in PURE), "parts/exact_json.js")


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
        ("numbers", [1, None, 2], "[1,null,2]"),
        ("lines", ["a", "b"], "a\nb"),
        ("lines", ["a\nb"], '["a\\nb"]'),
        ("lines", ["[a", "b"], '["[a","b"]'),
        ("json", {"a": 1}, '{"a":1}'),
        ("json", {"a": ["x" * 40, {"b": 1}], "c": "x" * 30}, PRETTY),
        ("choice", "red", '"red"'),
        ("number", 1.5, "1.5"),
        ("nullable", None, ""),
        ("text", 12345678901234567891, "12345678901234567891"),
        ("number", 12345678901234567891, "12345678901234567891"),
        ("numbers", [1, 12345678901234567891], "1, 12345678901234567891"),
        ("json", {"a": [-12345678901234567891]}, '{"a":[-12345678901234567891]}'),
        ("choice", 12345678901234567891, "12345678901234567891"),
        ("text", "a\nb", "a\nb"),
    ],
)
def test_an_example_is_typed_into_a_field(page, field, given, text):
    """And is read as what it was."""
    exact = f"m.parseExact({json.dumps(json.dumps(given))})"
    assert value(page, f"m.textOf({FIELDS[field]}, {exact})") == text
    if field != "text":
        read = value(page, f"m.readField({FIELDS[field]}, {json.dumps(text)})")
        assert json.loads(read["json"]) == given


def test_null_where_no_text_says_so(page):
    """It is kept as such, and sent as JSON: a part of a form would be the word."""
    field = "{name: 'a', kind: 'text', mayBeNull: true, isRequired: %s}"
    for is_required in ("true", "false"):
        typed = f"m.typedOf({field % is_required}, null)"
        assert value(page, typed) == {"text": "", "files": [], "isNull": True}
        fields = f"[{field % is_required}]"
        read = f"m.readValues({fields}, {{a: {typed}}})"
        assert value(page, read) == {"texts": {"a": "null"}, "files": {}, "faults": {}}
        assert value(page, f"m.waysOf({{}}, {read}, {fields})") == ["json"]
    number = "[{name: 'a', kind: 'number'}]"
    assert value(page, f"m.waysOf({{}}, {{texts: {{a: 'null'}}, files: {{}}}}, {number})") == [
        "json",
        "form",
    ]
    assert value(page, "m.typedOf({kind: 'choice'}, null)")["text"] == "null"
    file = "[{name: 'a', kind: 'file', isRequired: true, mayBeNull: true}]"
    assert value(page, f"m.readValues({file}, {{}})")["texts"] == {"a": "null"}


PNG = "new File(['x'], 'a b.png', {type: 'image/png'})"
OTHER = "new File(['x'], 'x.bin', {type: ''})"
JSON_FILE = "new File(['{}'], 'x.json', {type: 'application/json'})"


@pytest.mark.parametrize(
    ("takes", "texts", "files", "ways"),
    [
        (["application/json"], "{a: '1'}", "{}", ["json", "form"]),
        (["application/json"], "{}", f"{{image: [{PNG}]}}", ["form", "json"]),
        (["application/json", "image/*"], "{}", f"{{image: [{PNG}]}}", ["raw", "form", "json"]),
        (["application/json", "*/*"], "{}", f"{{image: [{OTHER}]}}", ["raw", "form", "json"]),
        (["application/json", "image/*"], "{}", f"{{image: [{OTHER}]}}", ["form", "json"]),
        # it would be read as the request
        (["application/json", "*/*"], "{}", f"{{image: [{JSON_FILE}]}}", ["raw", "form", "json"]),
        (["application/json", "text/*"], "{}", f"{{image: [{JSON_FILE}]}}", ["form", "json"]),
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
    sent = value(page, f"m.requestOf({call}).then((it) => it.body)")
    assert json.loads(sent) == {"k": 3, "note": "it's", "image": "eA=="}
    raw = f"{{headers: [], body: m.bodyOf('raw', {FORM}, {READ}, 'image')}}"
    kind = value(page, f"m.requestOf({raw}).then((it) => it.headers.get('content-type'))")
    assert kind == "image/png"
    as_octets = "m.bodyOf('raw', [], {texts: {}, files: {image: [%s]}}, 'image').type"
    for name in ("application/json", "multipart/form-data; boundary=x"):
        file = f"new File(['{{}}'], 'x', {{type: '{name}'}})"
        assert value(page, as_octets % file) == "application/octet-stream"
    many = "[{name: 'files', kind: 'file', isMany: true}]"
    several = f"m.bodyOf('json', {many}, {{texts: {{}}, files: {{files: [{PNG}, {PNG}]}}}}, '')"
    sent = value(page, f"m.requestOf({{headers: [], body: {several}}}).then((it) => it.body)")
    assert json.loads(sent) == {"files": ["eA==", "eA=="]}


def test_a_field_has_any_name(page):
    """Also one that every object of JavaScript has."""
    fields = "[{name: 'constructor', kind: 'text'}, {name: 'a', kind: 'file'}]"
    body = f"m.bodyOf('form', {fields}, {{texts: {{}}, files: {{}}}}, '')"
    assert value(page, body) == {"kind": "form", "parts": []}
    rows = "m.blockOf([{a: 1}, {constructor: 2}]).rows"
    assert value(page, rows) == [["1", ""], ["", "2"]]


def test_base64_of_any_length(page):
    """Both ways, across the pieces in which it is made."""
    for size in (0, 1, 2, 3, 32768, 100001):
        both = (
            f"m.base64Of(new Blob([new Uint8Array({size}).fill(200)]))"
            ".then((text) => m.fileFrom(text, 'n', '').arrayBuffer())"
            ".then((back) => [back.byteLength, new Uint8Array(back).every((one) => one === 200)])"
        )
        assert value(page, both) == [size, True]
    assert value(page, "m.fileFrom('%', 'n', '')") is None


@pytest.mark.parametrize(
    ("where", "name"),
    [("k", "k"), ("[2].k", "k"), ("inputs[0].k.deep", "k"), ("other", None), ("", None)],
)
def test_the_field_of_an_error(page, where, name):
    """By its place in the request."""
    assert value(page, f"m.fieldAt({json.dumps(where)}, [{{name: 'k'}}])") == name


LONG_NUMBERS = [
    "9007199254740993",
    "-12345678901234567891",
    "1" * 400,
    "1e400",
    '{"a": [1, 12345678901234567891, 0.12345678901234567], "b": "12345678901234567891"}',
    "0.10000000000000000555",
    "1e308",
    "9007199254740991",
]


@pytest.mark.parametrize("text", LONG_NUMBERS)
def test_a_number_keeps_its_digits(page, text):
    """From JSON to JSON; what JavaScript has as it is stays a number of it."""
    text_of_js = json.dumps(text)
    written = page.evaluate(f"JSON.stringify(m.parseExact({text_of_js}))")
    assert json.loads(written) == json.loads(text)
    if text.lstrip("-").isdigit():
        assert written == text
    is_exact = page.evaluate(f"m.parseExact({text_of_js}) instanceof m.ExactNumber")
    assert is_exact == (text in LONG_NUMBERS[:4])
    with pytest.raises(AssertionError, match="SyntaxError"):
        page.evaluate(f"m.parseExact({json.dumps(text + ',')})")


def test_large_numbers_of_an_answer_are_shown_as_they_came(page):
    """In a field, a list, a table; and in Raw of a stream."""
    long = "12345678901234567891"
    found = value(page, f"m.blockOf(m.parseExact('{{\"id\": {long}}}'))")
    assert found["entries"][0]["block"] == {"kind": "value", "text": long}
    assert value(page, f"m.blockOf(m.parseExact('[1, {long}]'))")["text"] == f"[1, {long}]"
    table = value(page, f'm.blockOf(m.parseExact(\'[{{"id": {long}, "n": [{long}]}}]\'))')
    assert table["rows"] == [[long, f"[{long}]"]]
    assert value(page, f"m.boxesOf(m.parseExact('[{long}, {{\"x\": {long}}}]'))") == []
    (item,) = value(page, f"m.readerOf('application/x-ndjson').feed('{{\"id\":  {long}}}\\n')")
    assert item["text"] == f'{{"id":  {long}}}'


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


def size_of(block: dict[str, Any]) -> int:
    """How many pieces of a page a block is: blocks, cells, numbers and every forty characters."""
    inner = [entry["block"] for entry in block.get("entries", [])] + block.get("blocks", [])
    rows = block.get("rows", [])
    cells = sum(len(row) for row in rows) if isinstance(rows, list) else 0
    texts = len(block.get("text", "")) // 40
    return 1 + cells + texts + len(block.get("values", [])) + sum(map(size_of, inner))


@pytest.mark.parametrize(
    "answer",
    [
        "Object.fromEntries(Array.from({length: 100000}, (_, n) => [`k${n}`, n]))",
        "'x'.repeat(16 << 20)",
        "Array(50).fill(Array(50).fill(Array(50).fill({a: {b: 'x'.repeat(50000)}})))",
        "Array(50).fill({a: Array(50).fill({b: Array(200).fill({n: 'x'.repeat(5000), m: 1})})})",
        "Array(50).fill({a: Array(50).fill({b: Array(500).fill(1), c: 0})})",
        "Array(50).fill({a: Array(50).fill({b: {x: 0.5, y: 0.25}, c: 'x'.repeat(1e6)})})",
        "JSON.parse('['.repeat(5000) + ']'.repeat(5000))",
    ],
)
def test_no_answer_is_more_than_a_page_shows(page, answer):
    """However large and nested it is; what is left out is counted."""
    block = value(page, f"m.blockOf({answer})")
    assert size_of(block) < 100_000


def test_what_is_small_is_shown_beside_what_is_large(page):
    """Each part has its share, in whatever order they come."""
    block = value(page, "m.blockOf({all: Array(5000).fill({n: 1, m: 'x'.repeat(300)}), last: 'y'})")
    table, last = (entry["block"] for entry in block["entries"])
    assert (len(table["rows"]), table["more"]) == (200, 4800)
    assert last == {"kind": "value", "text": "y"}
    rows = value(page, "m.blockOf(Array(50).fill({vector: Array(384).fill(1), tokens: 3}))")
    assert all(len(row["entries"]) == 2 for row in rows["blocks"])
    assert len(rows["blocks"][-1]["entries"][0]["block"]["values"]) == 384
    cut = value(page, "m.textBlock('x'.repeat(150000))")
    assert (len(cut["text"]), cut["more"]) == (100_000, 50_000)


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
    assert [(one["kind"], one["value"]) for one in value(page, read)] == [
        ("item", {"n": 0}),
        ("item", {"n": 1}),
        ("error", {"error": "no", "code": "x"}),
    ]


@pytest.mark.parametrize(
    ("kind", "text", "is_whole", "count"),
    [
        ("text/event-stream", "data: 1\n\nevent: done\ndata: {}\n\n", True, 2),
        ("text/event-stream", STREAM, True, 3),
        ("text/event-stream", "data: 1\n\n", False, 1),
        ("text/event-stream", "data: 1\n\nevent: done\ndata: {}\n", False, 1),
        ("text/event-stream", "", False, 0),
        ("application/x-ndjson", "1\n2", True, 2),
        ("application/x-ndjson", '{"a": 1}\n{"a"', False, 1),
        ("application/x-ndjson", "", True, 0),
    ],
)
def test_a_stream_that_was_cut(page, kind, text, is_whole, count):
    """Events end with one that says so; of lines, only what is cut within one is seen."""
    read = (
        f"(() => {{ const reader = m.readerOf('{kind}');"
        f" const items = [...reader.feed({json.dumps(text)}), ...reader.end()];"
        " return [reader.isWhole, items.length]; })()"
    )
    assert value(page, read) == [is_whole, count]


@pytest.mark.parametrize("reader", ["EventReader", "LineReader"])
def test_a_line_without_an_end_is_refused(page, reader):
    """At a bound, before memory is; what is below it is read."""
    feed = f"const reader = new m.{reader}(1000); reader.feed('data: ' + 'x'.repeat(900));"
    assert page.evaluate(f"(() => {{ {feed} return 'read'; }})()") == "read"
    with pytest.raises(AssertionError, match="more than 1000 characters"):
        page.evaluate(f"(() => {{ {feed} reader.feed('x'.repeat(900)); }})()")
    if reader == "EventReader":
        lines = "for (;;) reader.feed('data: x\\n');"
        with pytest.raises(AssertionError, match="more than 1000 characters"):
            page.evaluate(f"(() => {{ {feed.split(';')[0]}; {lines} }})()")


def test_the_newest_items_are_kept(page):
    """So many, of so many characters; the last one always."""
    items = "Array.from({length: 9}, (_, n) => ({n, text: 'x'.repeat(n)}))"
    for most, characters, kept in ((3, 99, [6, 7, 8]), (99, 15, [7, 8]), (9, 1, [8]), (0, 9, [])):
        found = value(page, f"m.newestOf({items}, {most}, {characters}).map((one) => one.n)")
        assert found == kept


def test_the_end_of_a_stream_and_what_is_none(page):
    """`event: done` has the time of all items; JSON comes whole."""
    (done,) = value(
        page, """m.readerOf("text/event-stream").feed('event: done\\ndata: {"items": 2}\\n\\n')"""
    )
    assert done == {"kind": "done", "value": {"items": 2}, "text": '{"items": 2}'}
    (text,) = value(page, """m.readerOf("text/event-stream").feed('data: [DONE]\\n\\n')""")
    assert text == {"kind": "text", "value": "[DONE]", "text": "[DONE]"}
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
    "typed",
    [
        '{"text": "a", "pin": "1234"}',
        '[{"pin": "1234", "n": 12345678901234567890}, {"text": "a"}, {"pin": "1234"}]',
        '{"deep": {"pin": "1234"}, "text": "it\'s"}',
        '{"pin": 1234}',
        '{"pin": "5678", "pin": "1234"}',
        '{"text": "a"}',
        '{"pin": null}',
    ],
)
def test_no_secret_is_written_down_of_json_that_was_typed(page, typed, tmp_path):
    """A shell and Python put it in; what is beside it is as it was."""
    call = f"{{headers: [], body: m.typedBody({json.dumps(typed)})}}"
    line, text, openai = (
        value(page, f"m.{program}({call}, {{url: 'http://h/f', task: 'embedding', {more}}})")
        for program, more in (
            ("curlOf", "secrets: ['pin']"),
            ("pythonProgram", "secrets: ['pin']"),
            ("openaiProgram", "secrets: ['pin'], base: '', name: 'f'"),
        )
    )
    for program in (line, text, openai or ""):
        assert "1234" not in program.replace("12345678901234567890", "")
        assert "5678" not in program.replace("12345678901234567890", "")
    (tmp_path / "curl").write_text('#!/bin/sh\nfor it; do printf %s "$it"; done')
    (tmp_path / "curl").chmod(0o755)
    printed = subprocess.run(
        ["sh", "-c", line],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "PIN": "1234"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    sent = json.loads(typed.replace('"pin": 1234', '"pin": "1234"'))
    assert json.loads(printed.partition("application/json-d")[2]) == sent
    (body,) = re.findall(r"^    json=(.*),$", text, re.MULTILINE)
    os = SimpleNamespace(environ={"PIN": "1234"})
    assert eval(body, {"os": os}) == sent


@pytest.mark.parametrize(
    ("options", "end"),
    [
        ("", "print(response.json())"),
        ("isText: true", "print(response.text)"),
        ("output: 'a.png'", 'Path("a.png").write_bytes(response.content)'),
    ],
)
def test_what_python_does_with_the_answer(page, options, end):
    """By what it is: JSON, a text, a file."""
    call = "{headers: [], body: {kind: 'json', text: '{}'}}"
    text = value(page, f"m.pythonProgram({call}, {{url: 'http://h/f', {options}}})")
    compile(text, "call.py", "exec")
    assert text.endswith(f"{end}\n")


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
    text = value(page, f"m.base64Of(new Blob([{made}]))")
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
