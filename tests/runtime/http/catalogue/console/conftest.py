"""One browser for all tests of the page's modules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.runtime.http.catalogue.console import modules_page


@pytest.fixture(scope="session")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[modules_page.ModulesPage]:
    """A browser that has modules of the page."""
    with modules_page.opened(tmp_path_factory.mktemp("profile")) as opened:
        yield opened
