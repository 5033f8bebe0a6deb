"""The report as HTML: its numbers need no script, its texts are never markup, its size is bounded."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from deployments.loadtest.report import write_report
from deployments.loadtest.report.aggregates import MOST_CODES
from deployments.loadtest.results.records import CallRecord, Promise, Run
from deployments.loadtest.results.verdict import judge
from tests.deployments.loadtest.made_runs import EMBED, FORECAST, make_run

TAGS_WITHOUT_END = {"meta", "link", "input", "br", "image", "path", "use"}


class Reader(HTMLParser):
    """What a browser would make of a page.

    Attributes:
        shape: how many elements there are of each tag with each set of attributes.
        texts: outside of scripts and styles.
        addresses: values of attributes that name a resource.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.shape: Counter[tuple[str, ...]] = Counter()
        self.texts: list[str] = []
        self.addresses: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.shape[(tag, *sorted(name for name, _ in attrs))] += 1
        self._open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "action", "srcset", "data", "poster"):
                self.addresses.append(value or "")
            self.addresses += re.findall(r"url\(([^)]*)\)", value or "")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("script", "style"):
            self.addresses += re.findall(r"url\(([^)]*)\)|@import", data)
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


def report(run: Run, folder: Path, against: Run | None = None) -> str:
    """The text of the report of a run."""
    path = folder / "new" / "report.html"
    write_report(run, judge(run), path, against)
    return path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_numbers_need_no_script(tmp_path):
    """The verdict in words, promises with intervals, windows, percentiles, stages and errors are
    text of the page, and all that it names is within it.
    """
    run = make_run(replace(EMBED, spike=(20, 26)), seconds=30)
    read = Reader(report(run, tmp_path))
    verdict = judge(run)
    assert verdict.outcome in read.texts
    for expected in (
        *("embed", "p95 ≤ 25 ms", "answered right ≥ 99 %", "overloaded"),
        *("Windows of 1 s", "29 s to 30 s", "Where the time went", "waiting for a worker", "p99"),
        *("The generator", "It was not the limit.", "Rows in a batch", run.shape, run.url),
    ):
        assert expected in read.text, expected
    assert all(address.startswith(("#", "data:")) for address in read.addresses), read.addresses


HOSTILE = (
    "<script>window.pwned = 1</script>",
    "</style><script>window.pwned = 1</script>",
    "</script><script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'>",
    '" autofocus onfocus="window.pwned = 1" x="',
    "' onmouseover='window.pwned = 1",
    "<svg/onload=window.pwned=1>",
    "--><script>window.pwned = 1</script><!--",
    "]]><script>window.pwned = 1</script>",
    "</title><script>window.pwned = 1</script>",
    "{{ 7 * 7 }}{% raw %}{{ script | safe }}",
    "javascript:window.pwned=1",
    "&lt;script&gt;&#60;b&#62;&amp;",
    "$\\frac{1}{2$ $x",
    "<link rel=stylesheet href=//example.com/x.css>",
    "<base href=//example.com>",
    "a\u202eb\x00\x07\ud800\nc",
    "%s {0} \\N{BULLET} \\u003cscript\\u003e",
    "<!--<script>",
    "﷽" * 50,
)


def hostile_run(texts: tuple[str, ...] | list[str]) -> Run:
    """A run in which everything that can be named is named by such texts."""
    run = make_run(EMBED, seconds=6, warm_up_s=0.0)
    names = {"embed": texts[0]}
    dice = random.Random(1)
    calls = [
        call._replace(
            function=names[call.function],
            stages={dice.choice(texts): value for value in call.stages.values()},
        )
        for call in run.calls
    ]
    calls += [
        CallRecord(names["embed"], 1.0, 1.0, 1.1, 500, text) for text in texts for _ in range(2)
    ]
    return replace(
        run,
        url=texts[2],
        shape=texts[3],
        rates={names[name]: rate for name, rate in run.rates.items()},
        machine=dict(zip(texts, reversed(texts), strict=True)),
        promises={name: Promise(5, 5, 5, 0.999, 0.999) for name in names.values()},
        calls=sorted(calls, key=lambda call: call.intended),
        server=[sample._replace(function=names[sample.function]) for sample in run.server],
        was_limited=texts[4],
        notes=list(texts),
        cautions=list(texts),
    )


def generated_texts(seed: int) -> list[str]:
    """Texts of pieces that mean something to a parser of HTML, of templates or of scripts."""
    dice = random.Random(seed)
    pieces = ["<", ">", "</", "/>", "'", '"', "&", ";", "=", "--", "!", "{{", "}}", "{%", "`", "\\", "\n", "\x00", "]]>", "script", "style", "onload", "window.pwned=1", "svg", "$", "_{", "\u2028", "\U0001f600", "é", " ", "%00", "#"]  # fmt: skip
    made = ["".join(dice.choices(pieces, k=dice.randrange(1, 30))) for _ in range(MOST_CODES)]
    return [f"{number} {text}" for number, text in enumerate(made)]


def tame_texts(hostile: tuple[str, ...] | list[str]) -> list[str]:
    """As many harmless ones; what is empty stays so."""
    return [f"name{number}" for number in range(len(hostile))]


@pytest.mark.slow
@pytest.mark.parametrize(
    "texts",
    [
        HOSTILE,
        *(pytest.param(generated_texts(seed), marks=pytest.mark.full) for seed in range(1, 12)),
    ],
    ids=["chosen", *(f"generated{seed}" for seed in range(1, 12))],
)
def test_a_text_is_never_markup(tmp_path, texts):
    """A page whose every name is hostile has the elements and attributes of one whose names are
    harmless, and shows each name.
    """
    page = report(hostile_run(texts), tmp_path)
    read, tame = Reader(page), Reader(report(hostile_run(tame_texts(texts)), tmp_path))
    assert read.shape == tame.shape
    assert read._open == tame._open
    shown = read.text
    for text in texts:
        if text.isprintable() and len(text) < 300:
            assert re.sub(r"\s+", " ", text).strip() in shown
    assert all(address.startswith(("#", "data:")) for address in read.addresses)
    assert "\x00" not in page
    assert "\u202e" not in page


@pytest.mark.full
def test_a_report_of_many_functions_and_codes_is_bounded(tmp_path):
    """The functions that are drawn are the busiest; texts are cut."""
    calls = [
        CallRecord(
            f"f{number}",
            at / 50,
            at / 50,
            at / 50 + 0.01,
            500 if at % 2 else 200,
            f"{number}{'x' * 5000}" if at % 2 else "",
        )
        for number in range(40)
        for at in range(100)
    ]
    run = Run("", "", {f"f{number}": 1.0 for number in range(40)}, 2, 0, 1, 0, {}, {}, calls)
    text = report(run, tmp_path)
    assert "28 more with fewer calls" in text
    assert "x" * 500 not in text
    assert len(text) < 5_000_000


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"calls": []}, id="no-calls", marks=pytest.mark.full),
        pytest.param({"calls": [], "server": [], "generator": [], "promises": {}}, id="nothing"),
        pytest.param(
            {"server": [], "generator": [], "cpu_s": None}, id="no-samples", marks=pytest.mark.full
        ),
        pytest.param(
            {"is_partial": True, "was_limited": "its processor", "cautions": ["a part of it"]},
            id="partial",
        ),
        pytest.param({"started": 1e300}, id="no-time", marks=pytest.mark.full),
    ],
)
@pytest.mark.slow
def test_a_run_that_lacks_something_has_a_report(tmp_path, change):
    """What is missing is left out."""
    run = replace(make_run(FORECAST, seconds=4, warm_up_s=0.0), **change)
    read = Reader(report(run, tmp_path))
    assert "In numbers" in read.text
    assert ("ended before its time" in read.text) == bool(change.get("is_partial"))
    assert ("was the limit, not the server" in read.text) == ("was_limited" in change)
    assert ("a part of it" in read.text) == ("cautions" in change)


def test_nothing_is_left_where_it_cannot_be_written(tmp_path):
    """A file stands where its folder should be."""
    (tmp_path / "taken").touch()
    run = make_run(FORECAST, seconds=1)
    with pytest.raises(OSError, match="taken"):
        write_report(run, judge(run), tmp_path / "taken" / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
