"""``/docs``: the page comes from here alone, and in a browser its "try it" calls the functions."""

from __future__ import annotations

import json
import re

import pytest

from tests import browser, file_stages, odd_types, serving
from tests.runtime.http.catalogue.test_generated_client import ROOT
from wakeful.testing import serve


@pytest.mark.slow
def test_the_page_and_its_files(tmp_path):
    """The page says that nothing may come from elsewhere, and names its files by their content,
    which a browser may keep.
    """
    with serve(odd_types.write(tmp_path)) as app:
        page = app.http.get("/docs")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        files = re.findall(r'(?:href|src)="(?!data:)([^"]+)"', page.text)
        assert len(files) == 3
        for file in files:
            asset = app.http.get(f"/{file}")
            assert asset.status_code == 200
            assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
            assert asset.headers["content-type"].split(";")[0] in ("text/css", "text/javascript")
        missing = app.http.get("/docs/docs.js")
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.skipif(browser.CHROMIUM is None, reason="needs the Debian package chromium")
def test_files_in_a_browser(tmp_path):
    """Execute shows the picture that is answered, and plays the sound; the policy of the page
    allows both.
    """
    file = tmp_path / "serve_config.yaml"
    functions = file_stages.declared(("picture", "beep"))
    file.write_text(json.dumps({"applications": functions}))
    with (
        serving.run(file, root=ROOT, log=tmp_path / "log") as url,
        browser.opened(f"{url}/docs", tmp_path / "profile") as page,
    ):
        page.wait_for("document.querySelectorAll('.opblock-tag').length >= 2")
        for name, shown in (
            ("picture", "img')?.naturalWidth === 8"),
            ("beep", "audio')?.duration > 0.09"),
        ):
            block = BLOCK.format(tag=name, operation=name)
            page.evaluate(f"{block}.querySelector('.opblock-summary-control').click()")
            # a click before the body is there is lost
            page.wait_for(f"!!{block}.querySelector('textarea')?.value")
            page.evaluate(f"{block}.querySelector('.execute').click()")
            page.wait_for(f"{block}.querySelector('.live-responses-table {shown}")
        page.screenshot(tmp_path / "files.png")
        assert page.complaints == []


BLOCK = "document.querySelector('#operations-{tag}-{operation}')"


@pytest.mark.slow
@pytest.mark.skipif(browser.CHROMIUM is None, reason="needs the Debian package chromium")
def test_try_it_in_a_browser(tmp_path):
    """Each function is shown; Execute sends the declared example, a body is sent from a file, and
    the answers are on the page. Nothing is asked of another host, and no script complains.
    """
    (tmp_path / "picture.png").write_bytes(b"\x89PNG" + bytes(100))
    with (
        serving.run(odd_types.write(tmp_path), root=ROOT, log=tmp_path / "log") as url,
        browser.opened(f"{url}/docs", tmp_path / "profile") as page,
    ):
        page.wait_for("document.querySelectorAll('.opblock-tag').length >= 6")
        shown = page.evaluate("document.body.innerText")
        assert "Looks at everything." in shown
        assert "/v2/models/count/generate_stream" in shown

        look = BLOCK.format(tag="look", operation="look")
        page.evaluate(f"{look}.querySelector('.opblock-summary-control').click()")
        page.wait_for(f"{look}.querySelector('textarea')?.value.includes('2026-02-28')")
        page.evaluate(f"{look}.querySelector('.execute').click()")
        answered = page.wait_for(f"{look}.querySelector('.live-responses-table')?.innerText")
        assert "200" in answered.split()
        assert '"day": "2026-02-28"' in answered
        page.screenshot(tmp_path / "docs.png")

        size = BLOCK.format(tag="size", operation="size")
        page.evaluate(f"{size}.querySelector('.opblock-summary-control').click()")
        choose = f"{size}.querySelector('.body-param-content-type select')"
        page.wait_for(f"!!{choose}")
        page.evaluate(
            f"(() => {{ const list = {choose}; const set = Object.getOwnPropertyDescriptor("
            "HTMLSelectElement.prototype, 'value').set; set.call(list, 'image/png');"
            " list.dispatchEvent(new Event('change', {bubbles: true})); })()"
        )
        page.wait_for(f"!!{size}.querySelector('input[type=file]')")
        page.give_file("#operations-size-size input[type=file]", tmp_path / "picture.png")
        page.evaluate(f"{size}.querySelector('.execute').click()")
        answered = page.wait_for(f"{size}.querySelector('.live-responses-table')?.innerText")
        assert '"size": 104' in answered
        assert {
            request
            for request in page.requests
            if not request.startswith((url, "data:", "about:", "blob:"))
        } == set()
        assert page.complaints == []
