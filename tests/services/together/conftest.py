"""The functions of ``declared``, served together: what takes time is to serve others, not to call
them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deployments.projects import HOST, Standing
from tests.services.together.declared import declared


@pytest.fixture(scope="package")
def up(standing: Standing) -> Iterator[Standing]:
    """Up, with all of them."""
    with standing.served(*HOST, *declared()):
        yield standing
