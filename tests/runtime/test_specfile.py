from __future__ import annotations

from pathlib import Path

import pytest

from runtime.errors import DeclarationError, Problem
from runtime.specfile import ServeFile, read

GOOD = """\
http_options: {host: 0.0.0.0, port: 9000}
applications:
  - name: catalogue
    route_prefix: /
    import_path: deployments:catalogue
  - name: host
    route_prefix: /v2/models
    import_path: deployments:host
  - name: embed
    route_prefix: /v2/models/embed
    import_path: deployments:function
    args:
      graph:
        - {stage: tokenize, python: "apps.embed:Tokenize", with: {tokenizer: models/minilm/tokenizer.json}}
        - stage: model
          onnx: models/minilm/model.int8.onnx
      batching: {max_batch_size: 16}
  - name: mine
    route_prefix: /mine
    import_path: my_deployments:app
    args: {anything: [1, {goes: here}]}
    deployments: [{name: a, ray_actor_options: {num_cpus: 2}, autoscaling_config: {min_replicas: 0}}]
  - {name: bare, route_prefix: /bare, import_path: "deployments:function", args: {onnx: m.onnx}}
"""

FUNCTION = """\
applications:
  - name: a
    route_prefix: {prefix}
    import_path: deployments:function
    args: {args}
"""


def load(folder: Path, text: str) -> ServeFile:
    """The file, read under its bare name."""
    (folder / "serve_config.yaml").write_text(text, encoding="utf-8")
    return read("serve_config.yaml")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        load(folder, text)
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return [str(problem).removeprefix("serve_config.yaml:") for problem in caught.value.problems]


def test_a_file_tells_its_functions_from_the_rest(folder: Path) -> None:
    """Ours are read strictly, others pass untouched."""
    file = load(folder, GOOD)
    assert [spec.name for spec in file.functions] == ["embed", "bare"]
    assert file.functions[0].batching.max_batch_size == 16
    assert (file.http_host, file.http_port) == ("0.0.0.0", 9000)
    assert file.catalogue == {"name": "catalogue", "route_prefix": "/", "import_path": "deployments:catalogue"}
    assert file.host is not None
    assert [other["args"] for other in file.others] == [{"anything": [1, {"goes": "here"}]}]
    assert len(file.raw["applications"]) == 5


def test_the_default_address_is_this_machine_only(folder: Path) -> None:
    """Ray's own default would be every interface."""
    file = load(folder, "applications: []")
    assert (file.http_host, file.http_port, file.functions) == ("127.0.0.1", 8000, ())


def test_later_checks_find_their_line(folder: Path) -> None:
    """By key, by function, by stage; what is not written has the line around it."""
    file = load(folder, GOOD)
    assert file.key_of("embed") == "applications[2]"
    assert file.stage_key("embed", 1) == "applications[2].args.graph[1]"
    assert file.stage_key("bare", 0) == "applications[4].args"
    assert file.locate("applications[2].args.graph[1].onnx") == ("serve_config.yaml", 16)
    assert file.locate("applications[2].args.graph[0].with.tokenizer") == ("serve_config.yaml", 14)
    assert file.locate("applications[2].args.limits.max_rows") == ("serve_config.yaml", 12)
    assert file.problem("applications[2].args.graph[1].onnx", "no such file.") == Problem(
        "serve_config.yaml", 16, "applications[2].args.graph[1].onnx", "no such file."
    )
    with pytest.raises(KeyError):
        file.key_of("mine")


def test_every_problem_is_said_at_once_in_file_order(folder: Path) -> None:
    """Whichever check found it."""
    assert problems(
        folder,
        """\
http_options: {prot: 8000}
applications:
  - name: a
    route_prefix: /a/
    import_path: deployments:function
    args:
      graph:
        - {stage: x, onnx: m.onnx}
        - {stage: y, python: "m:f", onnx: m.onnx}
      batching:
        max_batchsize: 32
      batching: {max_batch_size: thirty-two}
      limits:
        max_rows: 012
  - name: a
    import_path: deployments:functoin
""",
    ) == [
        "1: http_options.prot: unknown key, did you mean port?",
        "4: applications[0].route_prefix: '/a/' ends with '/'. Write '/a'.",
        "9: applications[0].args.graph[1].onnx: `python` and `onnx` both stand here. Make two stages of it.",
        "11: applications[0].args.batching.max_batchsize: unknown key, did you mean max_batch_size?",
        "12: applications[0].args.batching: this key already stands on line 10. Delete one of the two.",
        "14: applications[0].args.limits.max_rows: '012' means one thing to YAML 1.1, which `serve deploy` reads, and another to YAML 1.2. "
        "Write it without the leading zero, or put it in quotes.",
        "15: applications[1].name: 'a' is also the name of applications[0] on line 3. Each application has its own.",
        "16: applications[1].import_path: 'deployments:functoin' is no builder of ours, did you mean deployments:function?",
    ]


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("a", "'a' does not start with '/'. Write '/a'."),
        ("/a/", "'/a/' ends with '/'. Write '/a'."),
        ("/a//b", "'/a//b' has '//' in it. Write one '/'."),
        ("//", "'//' has '//' in it. Write one '/'."),
        ("/a/../b", "'/a/../b' has '..' in it, which clients resolve away. Write the path itself."),
        ("/a/./b", "'/a/./b' has '.' in it, which clients resolve away. Write the path itself."),
        ("/a%20b", "'/a%20b' has '%' in it; letters, digits and '.', '_', '-', '~' stand in a prefix."),
        ("/a b", "'/a b' has ' ' in it; letters, digits and '.', '_', '-', '~' stand in a prefix."),
        ("/{a}", "'/{a}' has '{' in it; letters, digits and '.', '_', '-', '~' stand in a prefix."),
        ("/ä", "'/ä' has 'ä' in it; letters, digits and '.', '_', '-', '~' stand in a prefix."),
        ("/", "/ is the catalogue's own. Write another, such as /v2/models/NAME."),
        ("/v2", "/v2 is the catalogue's own. Write another, such as /v2/models/NAME."),
        ("/v2/models", "/v2/models is the catalogue's own. Write another, such as /v2/models/NAME."),
        ("/v2/health", "/v2/health is the catalogue's own. Write another, such as /v2/models/NAME."),
        ("/v2/repository/index", "/v2/repository is the catalogue's own. Write another, such as /v2/models/NAME."),
        ("/v1/embeddings", "/v1 is the catalogue's own. Write another, such as /v2/models/NAME."),
        ("/openapi.json", "/openapi.json is the catalogue's own. Write another, such as /v2/models/NAME."),
        ("/docs", "/docs is the catalogue's own. Write another, such as /v2/models/NAME."),
        ("/metrics", "/metrics is the catalogue's own. Write another, such as /v2/models/NAME."),
        ("/-/routes", "/- is the catalogue's own. Write another, such as /v2/models/NAME."),
    ],
)
def test_a_prefix_that_cannot_be_called_is_refused(folder: Path, prefix: str, message: str) -> None:
    """With what to write instead."""
    text = FUNCTION.format(prefix=f"'{prefix}'", args="{onnx: m.onnx}")
    assert problems(folder, text) == [f"3: applications[0].route_prefix: {message}"]


@pytest.mark.parametrize("prefix", ["/v2/models/a", "/a", "/v2/healthy", "/v10", "/docs-2", "/a.b/c_d/~e"])
def test_other_prefixes_are_allowed(folder: Path, prefix: str) -> None:
    """The convention is no rule."""
    assert load(folder, FUNCTION.format(prefix=prefix, args="{onnx: m.onnx}")).functions[0].route_prefix == prefix


@pytest.mark.parametrize(
    ("applications", "messages"),
    [
        (
            ["{name: a, route_prefix: /a, %f}", "{name: b, route_prefix: /a, %f}"],
            ["3: applications[1].route_prefix: '/a' is also the route_prefix of applications[0] on line 2. Each application has its own."],
        ),
        (
            ["{name: a, route_prefix: /a, import_path: 'their:app'}", "{name: a, route_prefix: /b, %f}"],
            ["3: applications[1].name: 'a' is also the name of applications[0] on line 2. Each application has its own."],
        ),
        (
            ["{name: a, import_path: 'their:app'}", "{name: c, import_path: 'deployments:catalogue'}"],
            ["3: applications[1].route_prefix: '/' is also the route_prefix of applications[0] on line 2. Each application has its own."],
        ),
        (["{name: a, route_prefix: null, import_path: 'their:app'}", "{name: b, route_prefix: null, import_path: 'their:app'}"], []),
        (
            ["{name: a, route_prefix: /a/infer, %f}", "{name: b, route_prefix: /a, %f}"],
            ["2: applications[0].route_prefix: '/a/infer' is a route of applications[1] on line 3. Write another."],
        ),
        (
            ["{name: c, import_path: 'deployments:catalogue'}", "{name: d, route_prefix: /d, import_path: 'deployments:catalogue'}"],
            ["3: applications[1].import_path: a second catalogue. One is enough; delete it."],
        ),
        (
            ["{name: a, %f}"],
            ["2: applications[0].route_prefix: missing, and Ray's default is '/'. Write `route_prefix: /v2/models/a`."],
        ),
        (
            ["{name: h, import_path: 'deployments:host'}"],
            ["2: applications[0].route_prefix: missing, and Ray's default is '/'. Write `route_prefix: /v2/models`."],
        ),
        (["{name: a, route_prefix: null, %f}"], ["2: applications[0].route_prefix: nothing stands here, a string is wanted."]),
        (["{route_prefix: /a, %f}"], ["2: applications[0].name: missing. A function needs a name."]),
        (
            ["{name: ../x, route_prefix: /a, %f}"],
            ["2: applications[0].name: '../x' is not a name: letters, digits, '.', '_' and '-', at most 128, a letter or digit first."],
        ),
        (["{name: 7, route_prefix: /a, %f}"], ["2: applications[0].name: 7 is an integer, a string is wanted. Put it in quotes."]),
        (
            ["{name: a, route_prefix: /a, import_path: 'deployments:function'}"],
            ["2: applications[0].args: neither `graph` nor `onnx` stands here. A function has at least one stage."],
        ),
        (
            ["{name: c, import_path: 'deployments:catalogue', args: {a: 1}}"],
            ["2: applications[0].args: the catalogue takes no args. Delete them."],
        ),
        (["{name: a, route_prefix: /a}"], ["2: applications[0].import_path: missing, and it has no default."]),
        (["{name: a, route_prefix: /a, import: 'os:system'}"], ["2: applications[0].import: unknown key, did you mean import_path?"]),
        (["{name: a, route_prefix: /a, host: x, %f}"], ["2: applications[0].host: unknown key here; host belongs under http_options."]),
        (["7"], ["2: applications[0]: 7 is an integer, a mapping is wanted."]),
    ],
)
def test_what_an_application_lacks_or_shares_is_refused(folder: Path, applications: list[str], messages: list[str]) -> None:
    """Names, prefixes, and what is ours twice."""
    ours = "import_path: 'deployments:function', args: {onnx: m.onnx}"
    given = [application.replace("%f", ours if "import_path" not in application else "") for application in applications]
    text = "applications:\n" + "".join(f"  - {application}\n" for application in given)
    assert (problems(folder, text) if messages else load(folder, text).functions) == (messages or ())


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("deployments:functoin", "deployments:function"),
        ("deployments.function", "deployments:function"),
        ("deployment:function", "deployments:function"),
        ("deployments:catalog", "deployments:catalogue"),
        ("deployments:hosts", "deployments:host"),
        ("deployments:zzz", "deployments:function"),
        ("Deployments:function", "deployments:function"),
        ("my_deployments:function", None),
        ("src.deployments:function", None),
        ("hosts:app", None),
        ("os:system", None),
    ],
)
def test_a_builder_of_ours_is_meant(folder: Path, path: str, meant: str | None) -> None:
    """Misspelt it is refused; a module of the user's own is his, and nothing of it is imported."""
    text = f"applications:\n  - name: a\n    route_prefix: /a\n    import_path: {path}\n"
    if meant is None:
        assert len(load(folder, text).others) == 1
    else:
        assert problems(folder, text) == [f"4: applications[0].import_path: '{path}' is no builder of ours, did you mean {meant}?"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1: the file is empty. It needs `applications:`."),
        ("# nothing", "1: the file is empty. It needs `applications:`."),
        ("[]", "1: this is a list, a mapping is wanted."),
        ("hello", "1: 'hello' is a string, a mapping is wanted."),
        ("http_options: {}", "1: applications: missing, and it has no default."),
        ("applications: {}", "1: applications: this is a mapping, a list is wanted."),
        ("applications:", "1: applications: nothing stands here, a list is wanted."),
        ("applications: []\nproxy_location: headonly", "2: proxy_location: 'headonly' is not one of 'Disabled', 'HeadOnly', 'EveryNode'."),
        ("applications: []\nlogging_config: {level: DEBUG}", "2: logging_config.level: unknown key, did you mean log_level?"),
        ("applications: []\nhttp_options:\n  port: 80000", "3: http_options.port: 80000 is given, at most 65535 is wanted."),
        (
            "applications:\n- name: a\n  import_path: a:b\n  deployments:\n  - name: d\n    autoscaling_config: {min_replica: 1}",
            "6: applications[0].deployments[0].autoscaling_config.min_replica: unknown key, did you mean min_replicas?",
        ),
    ],
)
def test_rays_own_levels_are_strict_too(folder: Path, text: str, message: str) -> None:
    """Ray itself would take what it does not know and ignore it."""
    assert problems(folder, text) == [message]


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['touch ran']",
        "!!python/name:os.system",
        "&a [*a]",
        "no",
        "012",
        "1:30",
        "${HOME}/m.onnx",
        "$(touch ran)",
        "`touch ran`",
        "m.onnx\n\tb: 1",
        '"m\\0.onnx"',
        "[" * 5000,
        "../../etc/m.onnx",
    ],
)
def test_an_evil_value_is_refused_with_its_line(folder: Path, value: str) -> None:
    """And nothing it names is executed, imported or expanded."""
    said = problems(folder, FUNCTION.format(prefix="/a", args="{onnx: m.onnx}").replace("{onnx: m.onnx}", f"\n      onnx: {value}"))
    assert said[0].startswith(("6: ", "7: "))
    assert not (folder / "ran").exists()


def test_a_problem_shows_no_more_of_a_value_than_fits_a_line(folder: Path) -> None:
    """Nor does a key flood the message, or an escape reach the terminal."""
    text = FUNCTION.format(prefix="/a", args="{onnx: m.onnx, " + f'"\\e[31m{"k" * 500}": 1, tier: {"x" * 500}' + "}")
    assert problems(folder, text) == [
        "5: applications[0].args['\\x1b[31mkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk…]: unknown key; known here: "
        "description, graph, accepts, batching, resources, autoscaling, limits, tier, slo, sequences, example, calls, secrets, made_of, "
        "onnx, sha256.",
        "5: applications[0].args.tier: 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx… is not one of 'auto', 'own'.",
    ]


def test_a_thousand_problems_are_enough(folder: Path) -> None:
    """A file of nothing but mistakes is refused in bounded time."""
    assert len(problems(folder, "applications:\n" + "  - {}\n" * 3000)) == 1000
