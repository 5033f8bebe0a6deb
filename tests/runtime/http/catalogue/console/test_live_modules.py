"""What the page does between its server and what is shown: its stream, its details, its calls, its
microphone; with a fake of the server, or of the browser's device, on the far side.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests import browser
from tests.runtime.http.catalogue.console.modules_page import ModulesPage, value

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.CHROMIUM is None, reason="needs the Debian package chromium"),
]


ENDS: list[tuple[dict[str, Any], str, int]] = [
    ({}, "meet", 700),
    ({"fault": {"status": 0}}, "meet", 700),
    ({"fault": {"status": 503, "retryAfterS": 10}}, "meet", 10_000),
    ({"fault": {"status": 503, "retryAfterS": 86_400}}, "meet", 60_000),
    ({"isMoving": True}, "again", 500),
    ({"fault": {"status": 401}}, "refused", 0),
    ({"fault": {"status": 403}, "isWatching": True}, "refused", 0),
    # of the stream with the function, without it, and of the session
    ({"fault": {"status": 404}, "isWatching": True}, "without", 500),
    ({"fault": {"status": 404}}, "meet", 5000),
    ({"fault": {"status": 404}, "isWatching": True, "hasMet": False}, "meet", 5000),
]


def test_what_follows_the_end_of_a_stream(modules):
    """By why it ended: only a key that is missing or may not is the end of it."""
    page = modules.begin("live/reconnection.js")
    given = {"fault": None, "isMoving": False, "hasMet": True, "isWatching": False, "waitMs": 700}
    for ended, act, wait_ms in ENDS:
        found = value(page, f"m.nextStep({json.dumps({**given, **ended})})")
        assert found == {"act": act, "waitMs": wait_ms}, ended


FAKE_SERVER = """
window.asked = [];                  // paths, in their order
window.answers = {};                // a status by path, in place of 200
window.streams = [];                // controllers of the streams that were opened
window.states = [];                 // of the connection
window.details = {history: null, decisions: [], errors: [], name: 'x'};
const begin = window.setTimeout;    // waits of seconds take none; of a minute, until a test says so
window.rested = [];
window.setTimeout = (act, ms, ...more) => {
  if (ms === 60000) return void window.rested.push(act);
  return begin(act, ms > 10000 ? ms : 0, ...more);
};
document.isHidden = false;
Object.defineProperty(document, 'hidden', {get: () => document.isHidden});
window.see = (isSeen) => {
  document.isHidden = !isSeen;
  document.dispatchEvent(new Event('visibilitychange'));
};
window.tell = (event, data) => window.streams.at(-1).enqueue(
  new TextEncoder().encode(`event: ${event}\\ndata: ${JSON.stringify(data)}\\n\\n`));
window.functions = (...names) => window.tell('functions', {
  all: true, removed: [],
  functions: names.map((name) => ({name, state: 'ready', version: '1', ...window.more})),
});
const session = {token: 't', version: '1', assets: 'a', kind: 'run', can: ['look'], key: ''};
window.fetch = async (url, {signal}) => {
  signal?.throwIfAborted();
  const path = decodeURIComponent(url.pathname.slice(1) + url.search);
  window.asked.push(path);
  const [status = 200] = [window.answers[path]].flat();
  if (Array.isArray(window.answers[path])) window.answers[path].shift();
  await null;
  signal?.throwIfAborted();
  if (status !== 200) {
    return Response.json({error: `no ${path}`, code: 'not_found'}, {status});
  }
  if (!path.startsWith('console/events')) {
    return Response.json(path === 'console/session' ? session : window.details);
  }
  return new Response(new ReadableStream({start: (controller) => {
    window.streams.push(controller);
    signal.addEventListener('abort', () => controller.error(signal.reason));
  }}));
};
"""

CONNECT = """
m.connection.subscribe(({state}) => window.states.push(state));
m.connect();
"""


def connected(modules: ModulesPage, more: str = "", watched: str = "") -> browser.Page:
    """A page whose stream is open."""
    page = modules.begin("live/connection.js", "live/store.js", first=FAKE_SERVER + more)
    page.evaluate(f"void (() => {{ {CONNECT} {watched} }})()")
    return page


def asked_of(page: browser.Page) -> list[str]:
    """What the server was asked for."""
    found: list[str] = page.evaluate("window.asked")
    return found


def test_a_stream_that_moves(modules):
    """The page has another at once, of the same server, and says nothing of it."""
    page = connected(modules)
    page.wait_for("window.streams.length === 1")
    page.evaluate("window.functions('x')")
    page.wait_for("m.connection.value.state === 'live'")
    page.evaluate("window.tell('closing', {is_moving: true})")
    page.wait_for("window.streams.length === 2")
    page.evaluate("window.functions('x', 'y')")
    page.wait_for("m.functions.value.size === 2")
    assert asked_of(page) == ["console/session", "console/events", "console/events"]
    assert page.evaluate("window.states") == ["connecting", "live"]
    page.evaluate("window.tell('closing', {is_moving: false})")
    page.wait_for("window.streams.length === 3")
    assert asked_of(page)[-2:] == ["console/session", "console/events"]
    assert "reconnecting" in page.evaluate("window.states")


def test_a_page_that_rested_asks_whose_it_is(modules):
    """Another server may answer, and what was told meanwhile was not heard. While it rests and is
    not seen, nothing has it connect; also where it was opened so.
    """
    for hidden_at_first in ("", "document.isHidden = true;"):
        page = connected(modules, hidden_at_first)
        page.wait_for("window.streams.length === 1")
        page.evaluate("window.functions('x')")
        page.wait_for("m.connection.value.state === 'live'")
        if not hidden_at_first:
            page.evaluate("window.see(false)")
        page.wait_for("window.rested.length > 0")
        page.evaluate("window.rested.at(-1)()")
        assert page.evaluate("m.connection.value.state") == "resting"
        page.evaluate("window.asked = []")
        page.evaluate("void window.dispatchEvent(new Event('online'))")
        assert page.evaluate("m.connection.value.state") == "resting"
        assert asked_of(page) == []
        servers = page.evaluate("m.servers.value")
        page.evaluate("window.see(true)")
        page.wait_for("window.streams.length === 2")
        assert asked_of(page) == ["console/session", "console/events"]
        assert page.evaluate("m.servers.value") == servers + 1


def test_a_function_that_is_not_there_yet(modules):
    """Its page has the stream of all others, and its own once it is declared."""
    page = connected(
        modules,
        "window.answers['console/events?function=x'] = [404, 200];",
        "m.watchFunction('x');",
    )
    page.wait_for("window.streams.length === 1")
    assert asked_of(page)[-2:] == ["console/events?function=x", "console/events"]
    page.evaluate("window.functions('y')")
    page.wait_for("m.connection.value.state === 'live'")
    assert page.evaluate("window.streams.length") == 1
    page.evaluate("window.functions('y', 'x')")
    page.wait_for("window.streams.length === 2")
    assert asked_of(page)[-1] == "console/events?function=x"


def test_a_server_that_has_nothing_yet(modules):
    """While it starts HAProxy answers 404 to everything: the page asks again, with the function."""
    page = connected(
        modules,
        "window.answers['console/session'] = [404, 404, 200];",
        "m.watchFunction('x');",
    )
    page.wait_for("window.streams.length === 1")
    assert asked_of(page)[-1] == "console/events?function=x"
    assert page.evaluate("window.states").count("refused") == 0


def test_details_that_could_not_be_read_are_asked_for_again(modules):
    """Until they are there; not what is refused."""
    path = "console/functions/x?step=10"
    for statuses, asked in (([500, 503, 200], 3), ([404, 200], 1)):
        page = modules.begin(
            *("live/connection.js", "live/look.js", "live/store.js"),
            fragment="#/functions/x",
            first=f"{FAKE_SERVER} window.answers[{path!r}] = {statuses};",
        )
        page.evaluate("void (m.followRoute(), m.connect())")
        page.wait_for("window.streams.length > 0 && m.connection.value.state !== 'live'")
        page.evaluate("window.functions('x')")
        page.wait_for(f"window.asked.filter((one) => one === {path!r}).length === {asked}")
        if asked == 3:
            page.wait_for("m.watched.details.value !== null && m.watched.fault.value === null")
        else:
            page.wait_for("m.watched.fault.value?.status === 404")
        assert asked_of(page).count(path) == asked


LINES = [{"at": str(at), "kind": "INFO", "text": "x"} for at in range(5)]


def test_a_log_goes_on_with_the_next_stream(modules):
    """What was there stays, and nothing is there twice."""
    page = modules.begin("live/store.js")

    def take(lines: list[Any], *, is_all: bool) -> Any:
        event = {"event": "log", "data": json.dumps({"all": is_all, "lines": lines, "why": ""})}
        page.evaluate(f"m.takeEvents([{json.dumps(event)}])")
        return value(page, "m.watched.log.value.lines.map((line) => [line.at, line.id])")

    take(LINES[:2], is_all=True)
    before = take(LINES[2:4], is_all=False)
    assert [at for at, _ in before] == ["0", "1", "2", "3"]
    after = take(LINES[2:5], is_all=True)
    assert [at for at, _ in after] == ["0", "1", "2", "3", "4"]
    assert after[:4] == before
    other = [{"at": "9", "kind": "INFO", "text": "y"}]
    assert [at for at, _ in take(other, is_all=True)] == ["9"]
    assert take([], is_all=True) == []


def test_what_is_said_of_a_state_is_what_is_shown(modules):
    """A function in quarantine is told so."""
    no_details = "window.answers['console/functions/x?step=10'] = 404;"
    page = modules.begin(fragment="#/functions/x", first=FAKE_SERVER + no_details)
    page.evaluate("void (window.more = {last_minute: {}, errors: {}, part_of: 'y'})")
    page.evaluate(f"import('{modules.url}/console/assets/app.js').then(() => null)")
    page.wait_for("window.streams.length > 0")
    page.evaluate("window.functions('x')")
    page.wait_for("document.querySelector('h1')?.innerText === 'x'")
    page.evaluate("void Object.assign(window.more, {state: 'failed', is_quarantined: true})")
    page.evaluate("window.functions('x')")
    page.wait_for(
        "document.querySelector('[aria-live=polite].visually-hidden')?.innerText"
        " === 'x: Quarantined'"
    )


def test_the_buttons_of_a_function(modules):
    """What keeps it awake is taken back by a button where a pin does, and not where its hours do."""
    page = modules.begin("function/actions.js")
    for entry, verbs in (
        ({"state": "asleep", "kept": False, "pinned": False}, ["wake", "pin"]),
        ({"state": "ready", "kept": True, "pinned": True}, ["sleep", "unpin"]),
        ({"state": "ready", "kept": True, "pinned": False}, ["sleep", "pin"]),
        ({"state": "ready", "kept": False, "pinned": False, "part_of": "y"}, []),
    ):
        found = value(page, f"m.actionsOf({json.dumps(entry)}).map((one) => one.verb)")
        assert found == verbs, entry


def test_whose_key_is_wanted(modules):
    """A stage that answers 401 asks for a key of its own, and ours is not asked for."""
    page = modules.begin("api.js")
    refuse = (
        "(m.keyWanted.value = null, m.refusalOf(Response.json({error: 'no', code: '%s'},"
        " {status: 401}), {isCall: %s}).then((it) => [it.status, m.keyWanted.value]))"
    )
    assert value(page, refuse % ("bad_request", "true")) == [401, None]
    assert value(page, refuse % ("unauthorized", "true")) == [401, ""]
    assert value(page, refuse % ("", "false")) == [401, ""]


SEND = """(() => {
  const seen = [];
  const api = {send: async () => new Response(%s, {headers: {'content-type': '%s'}})};
  const call = {path: 'f', headers: [], body: {kind: 'json', text: '{}'}};
  return m.sendCall(api, call, {onItems: (stream) => seen.push(stream.count)})
    .then(({body, fault}) => ({body, seen, fault: fault && fault.message}));
})()"""


def test_a_stream_that_was_cut_is_no_answer(modules):
    """It is said to be one, and what has come stays; what ends as it should is one."""
    page = modules.begin("try/sending.js")
    done = "event: done\ndata: {}\n\n"
    for text, kind, is_whole in (
        (f'data: {{"n": 1}}\n\n{done}', "text/event-stream", True),
        ('data: {"n": 1}\n\n', "text/event-stream", False),
        ('{"n": 1}\n', "application/x-ndjson", True),
        ('{"n": 1}\n{"n"', "application/x-ndjson", False),
    ):
        found = value(page, SEND % (json.dumps(text), kind))
        assert found["body"]["isWhole"] is is_whole, text
        assert [one["text"] for one in found["body"]["items"]] == ['{"n": 1}'], text
        assert (found["fault"] is None) is is_whole, text
    whole = value(page, SEND % ("'{\"id\": 12345678901234567891}'", "application/json"))
    assert whole["body"]["value"] == {"id": 12345678901234567891}
    endless = (
        "new ReadableStream({pull: (it) => it.enqueue(new Uint8Array(1 << 20).fill(120)),"
        " cancel: () => { window.isCancelled = true; }})"
    )
    found = value(page, SEND % (endless, "application/x-ndjson"))
    assert "characters" in found["fault"]
    assert page.evaluate("window.isCancelled")


DRAFT = """(async () => {
  const fields = m.fieldsOf({properties: {
    file: {contentEncoding: 'base64'}, n: {type: 'integer'},
    text: {anyOf: [{type: 'string'}, {type: 'null'}]},
  }});
  const file = new File([new Uint8Array(%d)], 'my.bin', {type: 'x/y'});
  const values = {
    file: {text: '', files: [file]},
    n: {text: '12345678901234567891', files: []},
    text: {text: '', files: [], isNull: true},
  };
  const json = await m.jsonOfForm({fields, values});
  const typed = (%s)(json);
  const back = await m.valuesOfJson(fields, typed, values);
  const [kept] = back.file.files;
  return {json, n: back.n.text, isNull: back.text.isNull, isSame: kept === file, name: kept?.name};
})()"""


EDITS = [
    (10, "(text) => text", True, "my.bin"),
    (300_000, "(text) => text", True, "my.bin"),
    # taken out where it was; beyond the bound it is none of the text
    (10, '(text) => \'{"n": 12345678901234567891, "text": null}\'', False, None),
    (300_000, "(text) => text.replace('{', '{\"file\": \"eA==\",')", False, "example"),
    (10, "(text) => text.replace(/AAAA[^\"]*/, 'eA==')", False, "example"),
]
"""Bytes of the file, what is done to the JSON, and which file is there then."""


def test_a_form_as_json_and_back(modules):
    """The file is the one that was chosen, unless another took its place; numbers keep their digits,
    and null is null.
    """
    page = modules.begin("try/draft.js", "try/fields.js")
    for size, edit, is_same, name in EDITS:
        found = value(page, DRAFT % (size, edit))
        assert '"n":12345678901234567891' in found["json"].replace(" ", "")
        assert (found["n"], found["isNull"]) == ("12345678901234567891", True)
        assert (found["isSame"], found.get("name")) == (is_same, name), edit


DETAILS = {
    "entry": {"url": "/v2/models/f", "state": "ready", "part_of": ""},
    "form": {
        "required": ["id", "note", "pin"],
        "properties": {
            "id": {"type": "integer"},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "pin": {"type": "string", "format": "password", "writeOnly": True},
        },
    },
    "example": {"id": 12345678901234567891, "note": None, "pin": "1234"},
    "takes": ["application/json"],
}

TRY_IT = """
window.sent = [];
const api = {
  url: (path) => new URL(path, 'http://h/'),
  send: async (path, {body}) => {
    window.sent.push(body);
    return Response.json({id: 1});
  },
};
m.session.value = {can: ['call']};
const details = m.parseExact(%s);
m.render(m.h(m.TryIt, {name: 'f', details, api}), document.getElementById('console'));
window.click = (words) => [...document.querySelectorAll('button')]
  .find((one) => one.innerText === words).click();
window.type = (id, text) => {
  const field = document.getElementById(id);
  field.value = text;
  field.dispatchEvent(new Event('input', {bubbles: true}));
};
"""


def test_what_the_form_shows_is_what_is_sent(modules):
    """An example's integer with all its digits, and null; what is typed in its place; and no secret
    is in a program, in the form or in JSON.
    """
    names = ("try/view.js", "api.js", "parts/exact_json.js", "vendor/preact.module.js")
    page = modules.begin(*names)
    page.evaluate(f"void (() => {{ {TRY_IT % json.dumps(json.dumps(DETAILS))} }})()")
    page.wait_for("document.querySelector('.try-check input')?.checked")
    assert page.evaluate("document.getElementById('try-note').placeholder") == "null"
    assert page.evaluate("document.getElementById('try-id').value") == "12345678901234567891"
    page.evaluate("window.click('Call')")
    page.wait_for("window.sent.length === 1")
    assert json.loads(page.evaluate("window.sent[0]")) == DETAILS["example"]
    page.wait_for("document.querySelector('.try-result')?.ariaBusy === 'false'")
    page.evaluate("window.type('try-note', '1234')")
    page.wait_for("!document.querySelector('.try-check input').checked")
    page.evaluate("window.click('JSON')")
    page.wait_for("!!document.getElementById('try-json')")
    typed = json.loads(page.evaluate("document.getElementById('try-json').value"))
    assert typed == {"id": 12345678901234567891, "note": "1234", "pin": "1234"}
    page.evaluate("""window.type('try-json', '{"id": 12345678901234567891, "pin": "1234"}')""")
    program = "document.querySelector('.try-programs pre').innerText"
    page.wait_for(f"!{program}.includes('note')")
    for name in ("Python", "curl"):
        page.evaluate(f"window.click({name!r})")
        page.wait_for(f"{program}.includes({name.lower().replace('python', 'httpx')!r})")
        text = page.evaluate(program)
        assert "PIN" in text
        assert "1234" not in text.replace("12345678901234567891", "")
    page.evaluate("window.click('Form')")
    page.wait_for("document.getElementById('try-id')?.value === '12345678901234567891'")
    assert page.complaints == []


def test_the_median_is_that_of_the_last_minute(modules):
    """As the server has it, and not that of a few moments in it."""
    page = modules.begin("function/facts.js", "vendor/preact.module.js", "live/store.js")
    minute = {"calls": 9, "calls_per_s": 0.15, "errors": 0, "p50_ms": 12, "p95_ms": 40}
    entry = {"name": "f", "last_minute": minute, "tier": "run", "in_flight": 0}
    lines = {"calls_per_s": [9], "p50_ms": [77], "p95_ms": [77], "errors_per_s": [0]}
    samples = {"step_s": 5, "from": 1000, "steps": 1, "functions": {"f": lines}}
    event = {"event": "samples", "data": json.dumps(samples)}
    page.evaluate(f"m.takeEvents([{json.dumps(event)}])")
    page.evaluate(
        f"m.render(m.h(m.Facts, {{entry: {json.dumps(entry)}}}), document.getElementById('console'))"
    )
    shown = page.evaluate("document.getElementById('console').innerText")
    assert "12\u202fms" in shown
    assert "77" not in shown


FAKE_MICROPHONE = """
window.asked = [];                  // what gives the microphone, each time it is asked for
window.tracks = [];                 // those that are on
navigator.mediaDevices.getUserMedia = () => new Promise((give) => window.asked.push(() => {
  const track = {stop: () => { window.tracks = window.tracks.filter((one) => one !== track); }};
  window.tracks.push(track);
  give({getTracks: () => [track]});
}));
"""


def test_a_recorder_that_is_closed_as_it_begins(modules):
    """Has no microphone then, and raises nothing; one that is refused raises."""
    page = modules.begin("try/sound.js", first=FAKE_MICROPHONE)
    closed = (
        "(() => { const recorder = new m.Recorder(); const begun = recorder.start();"
        " recorder.close(); window.asked[0](); return begun; })()"
    )
    assert value(page, closed) is False
    assert page.evaluate("window.tracks.length") == 0
    page.evaluate(
        "void (navigator.mediaDevices.getUserMedia ="
        " async () => { throw new DOMException('no', 'NotAllowedError'); })"
    )
    refused = "new m.Recorder().start().then(() => 'on', (fault) => fault.name)"
    assert value(page, refused) == "NotAllowedError"


RECORDING = """
window.show = (content) => m.render(content, document.getElementById('console'));
const field = {name: 'sound', kind: 'file', media: 'sound', description: ''};
window.show(m.h(m.FileField, {id: 'x', field, files: [], onChange: () => {}}));
window.button = () =>
  [...document.querySelectorAll('button')].find((one) => one.innerText === 'Record');
"""


def test_no_microphone_stays_on(modules):
    """Where the view is left while the browser still asks, it is given back; while it asks it is not
    asked again.
    """
    names = ("try/files.js", "vendor/preact.module.js")
    page = modules.begin(*names, first=FAKE_MICROPHONE)
    page.evaluate(f"void (() => {{ {RECORDING} }})()")
    page.evaluate("void (window.button().click(), window.button().click())")
    page.wait_for("window.asked.length > 0")
    assert page.evaluate("window.asked.length") == 1
    page.evaluate("void window.show(null)")
    page.wait_for("document.querySelector('button') === null")
    page.evaluate("window.asked[0]()")
    page.wait_for("window.tracks.length === 0")
    assert page.evaluate("window.asked.length") == 1
