"""The console of a cluster in a browser: what `wakeful run` has not, and the buttons past HAProxy."""

from __future__ import annotations

import pytest

from tests.deployments.projects import HOST, Standing, function
from tests.runtime.http.catalogue.console.console_page import (
    click,
    go,
    needs_browser,
    opened,
    text_of,
    wait_for_names,
    wait_for_text,
)
from tests.runtime.http.catalogue.console.test_accessibility import violations

# `test_cluster_console.py` shows the server, `tests/runtime/http/catalogue/console` the page
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.full, needs_browser]


def test_a_cluster_is_seen(standing: Standing, tmp_path):
    """Its machine, tiers and replicas; a function wakes by its button, in the host, and sleeps by the
    next one.
    """
    shown = function("shown", least=0, scaling=", downscale_to_zero_delay_s: 600")  # not by itself
    with (
        standing.served(*HOST, shown) as client,
        opened(standing.url, tmp_path) as page,
    ):
        page.look(1280, "light")
        wait_for_names(page, "shown")
        assert page.evaluate("!!document.querySelector('[role=columnheader].tier')")
        page.wait_for("document.querySelectorAll('.machine').length === 1")
        wait_for_text(page, ".machine-memory", " of ")
        assert violations(page) == []
        go(page, "#/functions/shown")
        click(page, "Wake")
        wait_for_text(page, ".function-title .state", "Ready")
        wait_for_text(page, ".facts", "host")
        assert client.post("/v2/models/shown", json={"name": "bo"}).status_code == 200
        page.wait_for("document.querySelectorAll('.chart canvas').length >= 3")
        assert "/v2/models/shown" in text_of(page, ".facts")
        assert violations(page) == []
        click(page, "Sleep")
        wait_for_text(page, ".function-title .state", "Asleep")
        assert page.complaints == []
