"""What a file leaves out is supplied, and nothing that it says is changed."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.declaration.editing.whole_form import complete

CATALOGUE = {
    "name": "catalogue",
    "route_prefix": "/",
    "import_path": "deployments:catalogue",
}
HOST = {"name": "host", "route_prefix": "/v2/models", "import_path": "deployments:host"}
WRITTEN = {"name": "f", "args": {"onnx": "m.onnx"}}
FUNCTION = {
    **WRITTEN,
    "import_path": "deployments:function",
    "route_prefix": "/v2/models/f",
}


def applications(*written: Any) -> list[Any]:
    """The applications of a file with these, in its whole form."""
    whole = complete({"applications": list(written)})["applications"]
    assert complete({"applications": whole})["applications"] == whole
    return whole


@pytest.mark.parametrize(
    ("written", "whole"),
    [
        ({"name": "f"}, {"import_path": "deployments:function", "route_prefix": "/v2/models/f"}),
        ({"name": "f", "route_prefix": "/x"}, {"import_path": "deployments:function"}),
        (
            {"name": "../f"},
            {"import_path": "deployments:function", "route_prefix": "/v2/models/NAME"},
        ),
        ({"name": "h", "import_path": "deployments:host"}, {"route_prefix": "/v2/models"}),
        ({"name": "c", "import_path": "deployments:catalogue"}, {"route_prefix": "/"}),
        ({"name": "t", "import_path": "their:app"}, {}),
        ({"name": "t", "import_pth": "their:app"}, {}),
        ({"name": "t", "import": "their:app"}, {}),
        ({"name": "f", "route_prefix": None}, {"import_path": "deployments:function"}),
    ],
)
def test_an_application_without_a_builder_is_a_function(
    written: dict[str, Any], whole: dict[str, Any]
) -> None:
    """It is called by its name; a misspelt `import_path` is for the checks to name."""
    assert applications(written)[0] == {**written, **whole}


@pytest.mark.parametrize(
    ("written", "supplied"),
    [
        ([WRITTEN], [CATALOGUE, HOST]),
        ([FUNCTION], [CATALOGUE, HOST]),
        ([WRITTEN, HOST], [CATALOGUE]),
        ([WRITTEN, CATALOGUE], []),
        ([CATALOGUE, HOST, WRITTEN], []),
        ([], []),
        ([{"name": "t", "import_path": "their:app"}], []),
        ([WRITTEN, {"name": "t", "import_path": "their:app"}], []),
        (
            [WRITTEN, {"name": "t", "import_path": "their:app", "route_prefix": None}],
            [CATALOGUE, HOST],
        ),
        (
            [WRITTEN, {"name": "t", "import_path": "their:app", "route_prefix": "/v2/models"}],
            [CATALOGUE],
        ),
        ([{**WRITTEN, "name": "host"}], [CATALOGUE, {**HOST, "name": "wakeful-host"}]),
        ([WRITTEN, 7, {"name": ["x"], "route_prefix": {}}], [CATALOGUE, HOST]),
    ],
)
def test_a_file_with_functions_has_a_catalogue_and_a_host(
    written: list[Any], supplied: list[dict[str, Any]]
) -> None:
    """Behind its own applications, which keep their positions; one that names the catalogue alone
    says that it has no host.
    """
    assert applications(*written)[len(written) :] == supplied


@pytest.mark.parametrize(
    "data", [None, [], "hello", {}, {"applications": {}}, {"applications": None}]
)
def test_what_is_no_file_is_left_to_the_checks(data: Any) -> None:
    """As it is."""
    assert complete(data) == data
