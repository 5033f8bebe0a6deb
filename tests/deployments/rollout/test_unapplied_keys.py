"""What a cluster has no way to apply is refused before anything starts."""

from __future__ import annotations

from deployments.rollout.unapplied_keys import unappliable_problems, uncounted_keys
from runtime.declaration import config_file

HOST_WITHOUT_CATALOGUE = """\
applications:
  - {name: page, route_prefix: /, import_path: "their.page:app"}
  - {name: host, route_prefix: /v2/models, import_path: "deployments:host"}
  - {name: a, route_prefix: /v2/models/a, import_path: "deployments:function", args: {onnx: a.onnx}}
"""


def test_what_up_cannot_apply_is_refused_with_its_line(tmp_path):
    """Never ignored: the same file would serve differently by `serve deploy`."""
    path = tmp_path / "serve_config.yaml"
    path.write_text(HOST_WITHOUT_CATALOGUE)
    (problem,) = unappliable_problems(config_file.read(path))
    assert (problem.key, problem.line) == ("applications[1]", 3)


def test_what_one_process_does_not_count_is_said_with_its_line(tmp_path):
    """Where the file bounds it."""
    path = tmp_path / "serve_config.yaml"
    path.write_text(HOST_WITHOUT_CATALOGUE)
    assert uncounted_keys(config_file.read(path)) == []
    path.write_text("http: {connections_per_address: 7}\n" + HOST_WITHOUT_CATALOGUE)
    (problem,) = uncounted_keys(config_file.read(path))
    assert (problem.key, problem.line) == ("http.connections_per_address", 1)
