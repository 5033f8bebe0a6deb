"""What the pages, and `wakeful run` itself, tell a reader to type, typed."""

from __future__ import annotations

import argparse
import base64
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from runtime.declaration.config_file import read
from tests import serving
from tests.deployments.local.test_printed_lines import lines_of, type_line

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
HERE = "http://127.0.0.1:8000"
SHIPPED = {spec.route_prefix for spec in read(ROOT / "serve_config.yaml").functions}

pytestmark = [pytest.mark.models, pytest.mark.slow]


def typed() -> list[tuple[str, str]]:
    """Page and command, of each that calls a shipped function or the catalogue, where it stands
    first; backslashes join lines.
    """
    found: dict[str, str] = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^\$ (curl .*)$", text, re.MULTILINE):
            path = re.search(rf"{HERE}(/v2/(?:models/)?[\w-]+)", line)
            if path and (path[1] in SHIPPED or "/models/" not in path[1]):
                found.setdefault(line, page.name)
    return [(page, line) for line, page in found.items()]


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """What `wakeful run` prints."""
    return tmp_path_factory.mktemp("curl") / "log"


@pytest.fixture(scope="module")
def url(models, log):
    """The shipped functions, by `wakeful run`."""
    with serving.run(ROOT / "serve_config.yaml", root=ROOT, log=log) as url:
        yield url


def test_the_printed_line_of_each_shipped_function_is_a_call(url, log, tmp_path):
    """With a picture for FILE, or a sound."""
    picture = (ROOT / "wakeful" / "templates" / "image" / "sample.png").read_bytes()
    lines = lines_of(log.read_text())
    assert len(lines) == len(read(ROOT / "serve_config.yaml").functions)
    for name, line in lines.items():
        (tmp_path / "FILE").write_bytes(bytes(3200) if name == "listen" else picture)
        answered = type_line(line, tmp_path)
        assert answered.returncode == 0, f"{line}\n{answered.stdout}{answered.stderr}"
        (written,) = re.findall(r" -o (\S+)$", line) or [""]
        assert (tmp_path / written).read_bytes() if written else answered.stdout.strip(), name
        assert url in line


@pytest.mark.parametrize(("page", "line"), typed(), ids=lambda value: value[:60])
def test_a_line_works(url, page, line, tmp_path):
    """From the project's folder; curl says of a status from 400 on that it failed."""
    assert answers_of(url, page, line, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize(("page", "line"), typed(), ids=lambda value: value[:60])
def test_a_line_works_by_http2(url, page, line, tmp_path):
    """With `--http2` curl asks for HTTP/2 first, as Java's client does, and gets the same."""
    first, second = answers_of(url, page, line, tmp_path, (), ("--http2",))
    assert first == second


def answers_of(url, page, line, tmp_path, *ways):
    """What is printed and what is written, with each of these options."""
    answers = []
    for more in ways or ((),):
        typed_words = shlex.split(line.replace(HERE, url))
        words = [
            str(tmp_path / word) if before == "-o" else word
            for before, word in zip(["", *typed_words], typed_words, strict=False)
        ]
        command = [
            *words,
            "--silent",
            "--show-error",
            "--fail-with-body",
            "--max-time",
            "30",
            *more,
        ]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=40, check=False
        )
        assert done.returncode == 0, f"{page}: {line}\n{done.stdout}{done.stderr}"
        written = [file.read_bytes() for file in tmp_path.iterdir()]
        assert done.stdout or all(written)
        answers.append((without_times(done.stdout), written))
    return answers


def without_times(answer: str) -> str:
    """Of a stream, whose last event has those of its items."""
    return re.sub(r"dur=[\d.]+", "dur=0", answer)


def call_of(line: str, folder: Path) -> str:
    """A line of `DefaultClient`: the URL, the file of the body, the headers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("-o", default="")
    parser.add_argument("-d", "--data-binary", dest="data", default="")
    parser.add_argument("-F", action="append", default=[])
    call = parser.parse_args(shlex.split(line)[1:])
    if call.F:
        files = [part.split("=@") for part in call.F]
        form = {name: (file, (ROOT / file).read_bytes()) for name, file in files}
        request = httpx.Request("POST", call.url, files=form)
        body, call.H = request.read(), [f"content-type: {request.headers['content-type']}"]
    else:
        at = call.data.startswith("@")
        body = (ROOT / call.data[1:]).read_bytes() if at else call.data.encode()
    if body and not any(header.startswith("content-type") for header in call.H):
        call.H.append("content-type: application/x-www-form-urlencoded")  # as curl does
    file = folder / str(len(list(folder.iterdir())))
    file.write_bytes(body)
    return "\t".join([call.url, str(file) if body else "", *call.H])


@pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java here")
@pytest.mark.parametrize("count", [4, pytest.param(None, marks=pytest.mark.full)])
def test_javas_client_gets_the_same(url, tmp_path, count):
    """The one that every program of Java's has, as it is; it asks for HTTP/2 with each call: the first
    lines, or all.
    """
    lines = [line for _, line in typed()][:count]
    calls = [call_of(line.replace(HERE, url), tmp_path) for line in lines]
    done = subprocess.run(
        ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", Path(__file__).with_name(JAVA)],
        input="\n".join(calls), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = [answer.split() for answer in done.stdout.splitlines()]
    assert len(answers) == len(lines)
    for line, (status, body, status_1_1, body_1_1) in zip(lines, answers, strict=True):
        assert (status, status_1_1) == ("200", "200"), line
        text, text_1_1 = (base64.b64decode(one).decode("latin-1") for one in (body, body_1_1))
        assert without_times(text) == without_times(text_1_1), line


JAVA = "DefaultClient.java"


def test_every_function_has_a_line():
    """In the README."""
    lines = [line for page, line in typed() if page == "README.md"]
    assert {
        prefix for prefix in SHIPPED if not any(f"{HERE}{prefix} " in line for line in lines)
    } == set()
