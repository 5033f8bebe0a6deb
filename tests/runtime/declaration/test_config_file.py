from __future__ import annotations

from pathlib import Path

import pytest

from runtime.declaration.config_file import ConfigFile, read
from runtime.declaration.declared_spec import DeclaredSpec, FunctionArgs
from runtime.declaration.http_section import TlsSpec
from runtime.declaration.validation import known_keys
from runtime.errors import DeclarationError, Problem
from tests.problems import expect_values, place, places, problems_in

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
        - {stage: tokenize, python: "apps.embed:Tokenize", with: {tokenizer: models/minilm/words.json}}
        - stage: model
          onnx: models/minilm/model.int8.onnx
      batching: {max_batch_size: 16}
  - name: mine
    route_prefix: /mine
    import_path: my_deployments:app
    args: {anything: [1, {goes: here}]}
    deployments:
      - {name: a, ray_actor_options: {num_cpus: 2}, autoscaling_config: {min_replicas: 0}}
  - {name: bare, route_prefix: /bare, import_path: "deployments:function", args: {onnx: m.onnx}}
"""

FUNCTION = """\
applications:
  - name: a
    route_prefix: {prefix}
    import_path: deployments:function
    args: {args}
"""


def load(folder: Path, text: str) -> ConfigFile:
    """The file, read under its bare name."""
    (folder / "serve_config.yaml").write_text(text, encoding="utf-8")
    return read("serve_config.yaml")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(folder: Path, text: str) -> tuple[Problem, ...]:
    """What is wrong with a file of this text, in its order; the folder is the working one."""
    with pytest.raises(DeclarationError) as caught:
        load(folder, text)
    return problems_in(caught.value)


def with_prefix(prefix: str) -> str:
    """A file of one function under this prefix."""
    return FUNCTION.format(prefix=f"'{prefix}'", args="{onnx: m.onnx}")


def with_applications(applications: list[str]) -> str:
    """A file of these applications, a line each; ``%f`` is what makes one a function."""
    ours = "import_path: 'deployments:function', args: {onnx: m.onnx}"
    given = [
        application.replace("%f", ours if "import_path" not in application else "")
        for application in applications
    ]
    return "applications:\n" + "".join(f"  - {application}\n" for application in given)


def with_builder(path: str) -> str:
    """A file of one application that this makes."""
    return f"applications:\n  - name: a\n    route_prefix: /a\n    import_path: {path}\n"


def test_a_file_separates_its_functions_from_the_rest(folder: Path) -> None:
    """Ours are read strictly, others pass untouched."""
    file = load(folder, GOOD)
    assert [spec.name for spec in file.functions] == ["embed", "bare"]
    assert file.functions[0].batching.max_batch_size == 16
    assert (file.http_host, file.http_port) == ("0.0.0.0", 9000)
    assert file.catalogue == {
        "name": "catalogue",
        "route_prefix": "/",
        "import_path": "deployments:catalogue",
    }
    assert file.host is not None
    assert [other["args"] for other in file.others] == [{"anything": [1, {"goes": "here"}]}]
    assert len(file.raw["applications"]) == 5


def test_a_function_is_what_its_args_declare(folder: Path) -> None:
    """With what was set of it: a default is none of the file's."""
    file = load(folder, GOOD)
    for spec in file.functions:
        written = file.raw["applications"][file.positions[spec.name]]
        declared = DeclaredSpec.from_args(spec.name, spec.route_prefix, written["args"])
        assert spec == declared
        assert spec.model_fields_set == declared.model_fields_set
        assert type(spec) is DeclaredSpec


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


MISTAKES = """\
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
"""


def test_every_problem_is_reported_at_once_in_file_order(folder: Path) -> None:
    """Whichever check found it."""
    assert places(problems(folder, MISTAKES)) == [
        "1: http_options.prot",
        "4: applications[0].route_prefix",
        "9: applications[0].args.graph[1].onnx",
        "11: applications[0].args.batching.max_batchsize",
        "12: applications[0].args.batching",
        "14: applications[0].args.limits.max_rows",
        "15: applications[1].name",
        "16: applications[1].import_path",
    ]


@pytest.mark.parametrize(
    "prefix",
    [
        "a",
        "/a/",
        "/a//b",
        "//",
        "/a/../b",
        "/a/./b",
        "/a%20b",
        "/a b",
        "/{a}",
        "/ä",
        "/",
        "/v2",
        "/v2/models",
        "/v2/health",
        "/v2/repository/index",
        "/v1/embeddings",
        "/openapi.json",
        "/docs",
        "/metrics",
        "/-/routes",
    ],
)
def test_a_prefix_that_cannot_be_called_is_refused(folder: Path, prefix: str) -> None:
    """With what to write instead."""
    assert places(problems(folder, with_prefix(prefix))) == ["3: applications[0].route_prefix"]


@pytest.mark.parametrize(
    "prefix", ["/v2/models/a", "/a", "/v2/healthy", "/v10", "/docs-2", "/a.b/c_d/~e"]
)
def test_other_prefixes_are_allowed(folder: Path, prefix: str) -> None:
    """The convention is no rule."""
    assert (
        load(folder, FUNCTION.format(prefix=prefix, args="{onnx: m.onnx}"))
        .functions[0]
        .route_prefix
        == prefix
    )


@pytest.mark.parametrize(
    ("applications", "where"),
    [
        (
            ["{name: a, route_prefix: /a, %f}", "{name: b, route_prefix: /a, %f}"],
            ["3: applications[1].route_prefix"],
        ),
        (
            [
                "{name: a, route_prefix: /a, import_path: 'their:app'}",
                "{name: a, route_prefix: /b, %f}",
            ],
            ["3: applications[1].name"],
        ),
        (
            [
                "{name: a, import_path: 'their:app'}",
                "{name: c, import_path: 'deployments:catalogue'}",
            ],
            ["3: applications[1].route_prefix"],
        ),
        (
            [
                "{name: a, route_prefix: null, import_path: 'their:app'}",
                "{name: b, route_prefix: null, import_path: 'their:app'}",
            ],
            [],
        ),
        (
            ["{name: a, route_prefix: /a/infer, %f}", "{name: b, route_prefix: /a, %f}"],
            ["2: applications[0].route_prefix"],
        ),
        (
            ["{name: a, route_prefix: /a/ready, %f}", "{name: b, route_prefix: /a, %f}"],
            ["2: applications[0].route_prefix"],
        ),
        (
            [
                "{name: c, import_path: 'deployments:catalogue'}",
                "{name: d, route_prefix: /d, import_path: 'deployments:catalogue'}",
            ],
            ["3: applications[1].import_path"],
        ),
        (
            ["{name: a, route_prefix: null, %f}"],
            ["2: applications[0].route_prefix"],
        ),
        (
            ["{route_prefix: /a, %f}"],
            ["2: applications[0].name"],
        ),
        (
            ["{name: ../x, route_prefix: /a, %f}"],
            ["2: applications[0].name"],
        ),
        (
            ["{name: 7, route_prefix: /a, %f}"],
            ["2: applications[0].name"],
        ),
        (
            ["{name: a, route_prefix: /a, import_path: 'deployments:function'}"],
            ["2: applications[0].args"],
        ),
        (
            ["{name: c, import_path: 'deployments:catalogue', args: {a: 1}}"],
            ["2: applications[0].args"],
        ),
        (
            ["{name: a, route_prefix: /a}"],
            ["2: applications[0].args"],
        ),
        (
            ["{name: a, route_prefix: /a, import: 'os:system'}"],
            ["2: applications[0].import"],
        ),
        (
            ["{name: a, batching: {max_batch_size: 8}, %f}"],
            ["2: applications[0].batching"],
        ),
        (
            ["{name: a, graph: [{stage: s, python: 'm:f'}]}"],
            ["2: applications[0].graph"],
        ),
        (
            ["{name: a, route_prefix: /a, host: x, %f}"],
            ["2: applications[0].host"],
        ),
        (["7"], ["2: applications[0]"]),
    ],
)
def test_what_an_application_lacks_or_shares_is_refused(
    folder: Path, applications: list[str], where: list[str]
) -> None:
    """Names, prefixes, and what is ours twice."""
    text = with_applications(applications)
    if where:
        assert places(problems(folder, text)) == where
    else:
        assert load(folder, text).functions == ()


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
    """A misspelt one is refused; a module of the user's own is accepted and not imported."""
    text = with_builder(path)
    if meant is None:
        assert len(load(folder, text).others) == 1
    else:
        (problem,) = problems(folder, text)
        assert place(problem) == "4: applications[0].import_path"
        expect_values(problem.message, path, f"{meant}?")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "1"),
        ("# nothing", "1"),
        ("[]", "1"),
        ("hello", "1"),
        ("http_options: {}", "1: applications"),
        ("applications: {}", "1: applications"),
        ("applications:", "1: applications"),
        (
            "applications: []\nproxy_location: headonly",
            "2: proxy_location",
        ),
        (
            "applications: []\nlogging_config: {level: DEBUG}",
            "2: logging_config.level",
        ),
        (
            "applications: []\nhttp_options:\n  port: 80000",
            "3: http_options.port",
        ),
        (
            "applications: []\nhttp: {cors: {origins: [app.example]}}",
            "2: http.cors.origins[0]",
        ),
        (
            "applications: []\nhttp: {cors: {origins: []}}",
            "2: http.cors.origins",
        ),
        (
            "applications: []\nhttp: {cors: {origins: https://app.example}}",
            "2: http.cors.origins",
        ),
        (
            (
                "applications:\n- name: a\n  import_path: a:b\n  deployments:\n  - name: d\n    "
                "autoscaling_config: {min_replica: 1}"
            ),
            "6: applications[0].deployments[0].autoscaling_config.min_replica",
        ),
    ],
)
def test_rays_own_levels_are_strict_too(folder: Path, text: str, where: str) -> None:
    """Ray itself would take what it does not know and ignore it. So is `http`."""
    assert places(problems(folder, text)) == [where]


SHA, KEY = "a1" * 32, "wk_" + "Zk3" * 14 + "Q"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("auth:", "2: http.auth"),
        ("auth: yes_please", "2: http.auth"),
        ("auth: {key: x}", "2: http.auth.key"),
        ("auth: {file: ''}", "2: http.auth.file"),
        (f"auth:\n    keys: [{KEY}]", "3: http.auth.keys[0]"),
        (
            f"auth:\n    keys:\n    - {{name: a, sha256: {SHA}, {KEY}: a}}",
            "4: http.auth.keys[0]['wk_…']",
        ),
        (f"auth:\n    keys:\n    - name: a\n      sha256: {KEY}", "5: http.auth.keys[0].sha256"),
        (f"auth:\n    keys:\n    - name: {KEY}\n      sha256: {SHA}", "4: http.auth.keys[0].name"),
        (
            f"auth:\n    keys:\n    - name: a\n      sha256: {SHA[1:]}",
            "5: http.auth.keys[0].sha256",
        ),
        ("auth:\n    keys:\n    - name: a\n      sha256: []", "5: http.auth.keys[0].sha256"),
        ("auth:\n    keys:\n    - name: a", "4: http.auth.keys[0]"),
        (
            f"auth:\n    keys:\n    - {{name: a, sha256: {SHA}, subject: a}}",
            "4: http.auth.keys[0]",
        ),
        (
            f"auth:\n    keys:\n    - {{name: a, sha256: {SHA}, functions: [g]}}",
            "4: http.auth.keys[0].functions[0]",
        ),
        (
            f"auth:\n    keys:\n    - {{name: a, sha256: {SHA}, functions: []}}",
            "4: http.auth.keys[0].functions",
        ),
        (
            f"auth:\n    keys:\n    - {{name: a, sha256: {SHA}, scope: [call, lok]}}",
            "4: http.auth.keys[0].scope",
        ),
        (
            f"auth:\n    keys:\n    - {{name: a, sha256: {SHA}, scope: []}}",
            "4: http.auth.keys[0].scope",
        ),
        (
            f"auth:\n    keys:\n    - {{name: a, sha256: {SHA}, expires: '2027-13-01'}}",
            "4: http.auth.keys[0].expires",
        ),
        (
            f"auth:\n    keys:\n    - {{name: a, sha256: {SHA}, expires: 2027-03-01}}",
            "4: http.auth.keys[0].expires",
        ),
        (
            f"auth:\n    keys:\n    - {{name: a, sha256: {SHA}, rps: 0}}",
            "4: http.auth.keys[0].rps",
        ),
        (
            f"auth:\n    keys:\n    - {{name: a, sha256: {SHA}}}\n    - {{name: a, subject: b}}",
            "5: http.auth.keys[1].name",
        ),
        (
            f"auth:\n    keys:\n    - {{name: a, sha256: {SHA}}}\n    - {{name: b, sha256: {SHA.upper()}}}",
            "5: http.auth.keys[1].sha256",
        ),
    ],
)
def test_keys_are_checked(folder: Path, text: str, where: str) -> None:
    """Each at its line. A key that was pasted in place of its digest is not repeated."""
    found = problems(folder, keys_file(text))
    assert places(found) == [where]
    assert not any(KEY[3:20] in str(problem) for problem in found)


def keys_file(text: str) -> str:
    """A function, and this below `http`."""
    return f"http:\n  {text}\napplications:\n- name: f\n  args: {{onnx: m.onnx}}\n"


def test_keys_of_the_file(folder: Path) -> None:
    """As it has them; `auth: {}` asks for those of `wakeful keys`, and without it none are asked
    for.
    """
    text = f"""auth:
    file: k.json
    keys:
    - {{name: a, sha256: {SHA.upper()}, functions: [f], scope: look, rps: 0.5, in_flight: 2}}
    - {{name: b, sha256: [{SHA[::-1]}], scope: [operate, call], expires: "2027-03-01"}}
    - {{name: c, subject: client.example}}"""
    auth = load(folder, keys_file(text)).auth
    assert auth is not None
    assert auth.file == "k.json"
    first, second, third = auth.keys
    assert (first.sha256, first.functions, first.scope) == ((SHA,), ("f",), ("look",))
    assert (second.sha256, second.functions, second.scope) == (
        (SHA[::-1],),
        None,
        ("call", "operate"),
    )
    assert (third.sha256, third.subject) == (None, "client.example")
    empty = load(folder, keys_file("auth: {}")).auth
    assert empty is not None
    assert empty.keys == ()
    assert load(folder, keys_file('cors: {origins: ["*"]}')).auth is None


def test_a_key_that_stands_two_levels_too_high_is_sent_there(folder: Path) -> None:
    """Beside ``args`` too, which Ray does not look into."""
    text = FUNCTION.format(prefix="/a", args="{onnx: m.onnx}") + "    max_batch_size: 8\n"
    (problem,) = problems(folder, text)
    assert place(problem) == "6: applications[0].max_batch_size"
    expect_values(problem.message, "args.batching")


def test_a_key_of_a_command_is_refused_with_its_line(folder: Path) -> None:
    """Each by itself, also where it stands beside `args`; none is taken for another key."""
    more = "\n".join(f"      {key}: {{}}" for key in FunctionArgs.COMMAND_KEYS)
    text = FUNCTION.format(prefix="/a", args=f"\n      onnx: m.onnx\n{more}\n    secrets: {{}}")
    *within, beside = problems(folder, text)
    assert [(one.line, one.key.rpartition(".")[2]) for one in within] == [
        (line, key) for line, key in enumerate(FunctionArgs.COMMAND_KEYS, 7)
    ]
    assert {one.message.partition(" commands")[0] for one in within} == {"a file has no such key:"}
    assert (beside.line, beside.key) == (12, "applications[0].secrets")
    assert "belongs under args" not in beside.message


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
        "[" * 300,
        "../../etc/m.onnx",
    ],
)
def test_an_evil_value_is_refused_with_its_line(folder: Path, value: str) -> None:
    """And nothing it names is executed, imported or expanded."""
    found = problems(
        folder,
        FUNCTION.format(prefix="/a", args="{onnx: m.onnx}").replace(
            "{onnx: m.onnx}", f"\n      onnx: {value}"
        ),
    )
    assert found[0].line in (6, 7)
    assert not (folder / "ran").exists()


def test_a_problem_shows_no_more_of_a_value_than_fits_a_line(folder: Path) -> None:
    """Nor does a key flood the message, or an escape reach the terminal."""
    text = FUNCTION.format(
        prefix="/a", args="{onnx: m.onnx, " + f'"\\e[31m{"k" * 500}": 1, tier: {"x" * 500}' + "}"
    )
    known = ", ".join(known_keys(FunctionArgs))
    unknown, wrong = problems(folder, text)
    assert places([unknown, wrong]) == [
        "5: applications[0].args['\\x1b[31mkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk…]",
        "5: applications[0].args.tier",
    ]
    expect_values(unknown.message, known)
    expect_values(wrong.message, f"'{'x' * 38}…", "'auto', 'own'")
    assert "x" * 39 not in wrong.message


def test_a_thousand_problems_are_enough(folder: Path) -> None:
    """A file of nothing but mistakes is refused in bounded time."""
    assert len(problems(folder, "applications:\n" + "  - {}\n" * 3000)) == 1000


OURS = "http: {tls: {cert: c.pem, key: k.pem, client_ca: a.pem}}\n"
RAYS = "http_options: {ssl_certfile: c.pem, ssl_keyfile: k.pem, ssl_ca_certs: a.pem}\n"


@pytest.mark.parametrize("head", [OURS, RAYS])
def test_tls_is_declared_in_our_spelling_or_in_rays(folder: Path, head: str) -> None:
    """They mean the same; its files are looked at by commands."""
    file = load(folder, f"{head}applications: []")
    assert file.tls == TlsSpec(cert="c.pem", key="k.pem", client_ca="a.pem")
    assert load(folder, "applications: []").tls is None


@pytest.mark.parametrize(
    ("head", "place", "words"),
    [
        ("http:\n  tls:\n", "2: http.tls", ("in the clear",)),
        ("http: {tls: {cert: c.pem}}\n", "1: http.tls.key", ("missing",)),
        ("http: {tls: {cert: c.pem, key: ''}}\n", "1: http.tls.key", ()),
        ("http: {tls: {crt: c.pem, key: k.pem}}\n", "1: http.tls.crt", ("cert",)),
        ("http: {tls: c.pem}\n", "1: http.tls", ()),
        ("http_options: {ssl_certfile: c.pem}\n", "1: http_options", ("ssl_keyfile",)),
        ("http_options: {ssl_ca_certs: c.pem}\n", "1: http_options", ("ssl_certfile",)),
        (
            "http_options: {ssl_certfile: c.pem, ssl_keyfile: k.pem, ssl_keyfile_password: x}\n",
            "1: http_options.ssl_keyfile_password",
            ("openssl pkey",),
        ),
        (
            OURS + "http_options: {ssl_certfile: c.pem, ssl_keyfile: k.pem}\n",
            "2: http_options.ssl_certfile",
            ("http.tls",),
        ),
        ("tls: {cert: c.pem}\n", "1: tls", ("belongs under http",)),
    ],
)
def test_tls_that_is_declared_wrongly_is_refused(
    folder: Path, head: str, place: str, words: tuple[str, ...]
) -> None:
    """Never served in the clear."""
    found = problems(folder, f"{head}applications: []")
    assert place in places(found)
    for word in words:
        assert any(word in problem.message for problem in found), found
