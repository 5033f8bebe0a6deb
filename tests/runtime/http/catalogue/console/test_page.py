"""The page and its files: named by their content, compressed, and with nothing from elsewhere."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import re
from pathlib import Path, PurePosixPath

import pytest
from backports import zstd

from runtime.http.catalogue.console.page import ASSETS, ServedFile, import_map, make_page

PAGE = """<!doctype html><link rel="stylesheet" href="console/assets/console.css">
<script type="importmap"></script>
<script type="module" src="console/assets/app.js"></script>"""

FILES = {
    "console.html": PAGE,
    "app.js": 'import {h} from "preact"; import "./try/form.js";',
    "try/form.js": "export {};",
    "vendor/preact.module.js": "export {};",
    "vendor/uPlot.esm.js": "export {};",
    "vendor/LICENSES.txt": "MIT",
    "console.css": "a {}",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A page with modules and libraries."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_files_are_named_by_their_content(folder: Path):
    """So that a browser keeps them until they are others; with them the page is another."""
    page = make_page(folder)
    named = re.findall(r'(?:href|src)="console/assets/([^"]+)"', page.html.codings[""].decode())
    assert len(named) == 2
    assert all(name in page.files for name in named)
    assert not any("LICENSES" in name for name in page.files)
    (folder / "app.js").write_text("export {};")
    after = make_page(folder)
    assert len(page.files.keys() - after.files.keys()) == 1
    assert after.digest != page.digest


def test_modules_are_found(folder: Path):
    """Each by its place, libraries by their names as well; the map is the only script in the page, and the
    policy knows it.
    """
    page = make_page(folder)
    (script,) = re.findall(
        r'<script type="importmap">(.*?)</script>', page.html.codings[""].decode()
    )
    imports = json.loads(script)["imports"]
    assert imports.keys() == {
        *(f"./console/assets/{name}" for name in FILES if name.endswith(".js")),
        *("preact", "uPlot"),
    }
    for target in imports.values():
        assert target.startswith("./console/assets/")
        assert target.removeprefix("./console/assets/") in page.files
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}';" in page.policy
    assert page.policy.startswith("default-src 'none';")
    assert "unsafe" not in page.policy


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (["gzip, deflate, br, zstd"], "zstd"),
        (["gzip"], "gzip"),
        (["gzip;q=0, zstd;q=0"], ""),
        (["br"], ""),
        ([], ""),
    ],
)
def test_a_file_is_sent_as_its_client_takes_it(accepted, coding):
    """The smallest first."""
    text = b"a" * 5000
    file = ServedFile.of(text, ".js")
    assert file.choose(accepted) == coding
    decoded = {"": bytes, "gzip": gzip.decompress, "zstd": zstd.decompress}[coding]
    assert decoded(file.codings[coding]) == text


def test_all_files_are_small():
    """Compressed, together; and none of them asks anything of another host."""
    page = make_page(ASSETS)
    files = [page.html, *page.files.values()]
    for coding in ("zstd", "gzip"):
        assert sum(len(file.codings[coding]) for file in files if coding in file.codings) < 250_000
    for name, file in page.files.items():
        if "vendor/" not in name:
            assert not re.search(rb"https?://(?!www\.w3\.org/)[\w.]+\.\w", file.codings[""]), name


IMPORTED = re.compile(
    r"""(?:^|[;}\n])\s*(?:import|export)[^;("']*?from\s*"([^"]+)"|^import"([^"]+)\""""
)


def test_modules_are_asked_for_at_once():
    """The page names every module that its first one needs, or it would learn of them one after
    another; those that are imported later it does not.
    """
    names = {path.relative_to(ASSETS).as_posix() for path in ASSETS.rglob("*.js")}
    libraries = {target: name for name in names for target in (library_name(name),) if target}
    needed, found = ["app.js"], set()
    while needed:
        name = needed.pop()
        found.add(name)
        for parts in IMPORTED.findall((ASSETS / name).read_text()):
            target = "".join(parts)
            if target.startswith("."):
                target = os.path.normpath(PurePosixPath(name).parent / target)
            needed += {libraries.get(target, target)} - found
    page = (ASSETS / "console.html").read_text()
    preloaded = set(re.findall(r'rel="modulepreload" href="console/assets/([^"]+)"', page))
    assert preloaded == found - {"app.js"}
    assert not any(name.startswith(("try/", "vendor/uPlot")) for name in preloaded)


def library_name(name: str) -> str:
    """By which modules name a library; empty: it is none."""
    named = import_map({name: name})
    return next((key for key in json.loads(named)["imports"] if not key.startswith(".")), "")
