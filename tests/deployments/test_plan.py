"""What a file asks of a cluster, and what of it is there already."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deployments.plan import changes, plan, shadows, unappliable, without
from runtime import specfile
from runtime.parts import parted
from runtime.probe import Probe
from runtime.settings import Settings

FILE = """\
http_options: {host: 127.0.0.1, port: 8000, keep_alive_timeout_s: 5}
applications:
  - {name: catalogue, route_prefix: /, import_path: "deployments:catalogue"}
  - name: a
    route_prefix: /v2/models/a
    import_path: deployments:function
    args: {description: A., onnx: a.onnx, resources: {num_gpus: 0.5}}
  - {name: b, route_prefix: /v2/models/b, import_path: "deployments:function", args: {onnx: b.onnx}}
"""


HOST_ALONE = FILE.replace("name: catalogue, route_prefix: /", "name: host, route_prefix: /v2/models").replace(":catalogue", ":host")


@pytest.fixture
def read(tmp_path):
    """A file read from text."""

    def read(text):
        path = tmp_path / "serve_config.yaml"
        path.write_text(text)
        return specfile.read(path)

    return read


@pytest.fixture
def settings(tmp_path):
    """Settings that nothing is set in."""
    return Settings(root=tmp_path, models=tmp_path / "models")


def names(applications):
    """Of applications, in their order."""
    return [application["name"] for application in applications]


@pytest.mark.parametrize(("is_open", "location", "told"), [(False, "HeadOnly", None), (True, "EveryNode", True)])
def test_where_other_machines_may_join_each_gets_a_proxy_and_a_host(read, settings, is_open, location, told):
    """On one machine there is one proxy, and the hosts are counted."""
    wanted = plan(read(FILE.replace("applications:\n", "applications:\n" + HOST)), settings, is_open=is_open)
    assert wanted.serve["proxy_location"] == location
    (host,) = [one for one in wanted.applications if one["name"] == "host"]
    assert host["args"].get("everywhere") is told


def test_a_plan_has_every_application_in_file_order(read, settings):
    """With the arguments of `serve.start`, and what a replica takes."""
    wanted = plan(read(FILE), settings)
    assert names(wanted.applications) == ["catalogue", "a", "b"]
    assert wanted.serve["http_options"] == {"host": "127.0.0.1", "port": 8000, "keep_alive_timeout_s": 5}
    assert wanted.deployed[1].resources == {"num_cpus": 1.0, "num_gpus": 0.5}
    assert wanted.prefixes == {"/", "/v2/models/a", "/v2/models/b"}


def test_the_catalogue_is_told_of_the_functions(read, settings):
    """It has no other way to know what a sleeping one is called."""
    told = plan(read(FILE), settings).applications[0]["args"]["functions"]
    assert {key: told[0][key] for key in ("name", "url", "fixed", "probed")} == {
        "name": "a",
        "url": "/v2/models/a",
        "fixed": True,
        "probed": False,
    }
    assert told[0]["args"]["description"] == "A."


HOST = "  - {name: host, route_prefix: /v2/models, import_path: 'deployments:host'}\n"


@pytest.mark.parametrize(
    ("args", "prefix", "hosted"),
    [
        ("", "/v2/models/c", True),
        (", tier: own", "/v2/models/c", False),
        (", autoscaling: {min_replicas: 1}", "/v2/models/c", False),
        (", autoscaling: {initial_replicas: 1}", "/v2/models/c", False),
        (", resources: {num_gpus: 0.25}", "/v2/models/c", False),
        ("", "/elsewhere/c", False),
        ("", "/v2/modelsc", False),
    ],
)
def test_what_must_have_a_deployment_of_its_own_is_deployed_and_the_host_gets_the_rest(read, settings, args, prefix, hosted):
    """A function that the host can serve is only a name until it is called."""
    more = f"  - {{name: c, route_prefix: {prefix}, import_path: 'deployments:function', args: {{onnx: c.onnx{args}}}}}\n"
    wanted = plan(read(FILE + HOST + more), settings, {"c": Probe("c", memory_bytes=7)})
    assert ("c" in names(wanted.applications)) is not hosted
    assert (prefix in wanted.prefixes) is not hosted
    host = next(application for application in wanted.applications if application["name"] == "host")
    shared = {data["name"]: data for data in host["args"]["functions"]}
    assert set(shared) == {"b", "c"} if hosted else {"b"}
    if hosted:
        assert (shared["c"]["memory_bytes"], shared["c"]["probed"], host["args"]["owner"]) == (7, True, "catalogue")


def test_a_function_that_moves_between_host_and_own_is_deployed_or_deleted(read, settings):
    """The driver does what the file says; what load decides is the owner's."""
    without_host, with_host = plan(read(FILE), settings), plan(read(FILE + HOST), settings)
    assert changes(with_host, without_host.deployed, ["catalogue", "a", "b"]).gone == ("b",)
    todo = changes(without_host, with_host.deployed, ["catalogue", "a", "host"])
    assert (names(todo.applications), todo.gone) == (["catalogue", "b"], ("host",))


def test_one_function_less_is_told_to_who_shares(read, settings):
    """`wakeful down FUNCTION` of one that has no application."""
    (catalogue, host) = plan(read(FILE + HOST), settings).sharing
    assert [data["name"] for data in without(catalogue, ["b"])["args"]["functions"]] == ["a"]
    assert without(host, ["b"])["args"]["functions"] == []


@pytest.mark.parametrize(("flag", "variable", "port"), [(None, None, 8000), (None, 8001, 8001), (8002, 8001, 8002), (8002, None, 8002)])
def test_a_flag_goes_before_the_environment_and_that_before_the_file(read, settings, flag, variable, port):
    """For the port as for the address."""
    wanted = plan(read(FILE), replace(settings, port=variable), port=flag)
    assert (wanted.port, wanted.serve["http_options"]["port"]) == (port, port)


def test_nothing_changes_when_everything_stands(read, settings):
    """`up` again is quick and restarts nothing."""
    wanted = plan(read(FILE), settings)
    assert changes(wanted, wanted.deployed, ["catalogue", "a", "b"]) == changes(wanted, wanted.deployed, ["b", "a", "catalogue"])
    assert changes(wanted, wanted.deployed, ["catalogue", "a", "b"]).applications == ()


def test_what_changed_what_failed_and_what_is_new_is_deployed(read, settings):
    """And what the file has no more is deleted."""
    before = plan(read(FILE), settings)
    after = plan(
        read(FILE.replace("num_gpus: 0.5", "num_gpus: 0.25").replace("name: b", "name: c").replace("models/b", "models/c")), settings
    )
    todo = changes(after, before.deployed, ["catalogue", "a", "b"])
    assert names(todo.applications) == ["catalogue", "a", "c"]
    assert todo.gone == ("b",)
    assert names(changes(before, before.deployed, ["catalogue", "a"]).applications) == ["b"]


@pytest.mark.parametrize(("index", "told"), [(0, {"a", "catalogue"}), (1, {"b", "catalogue", "host"})])
def test_other_code_is_another_version_of_its_function_alone(read, settings, index, told):
    """With a deployment of its own and in the host; whoever is told of functions hears of it."""
    file = read(FILE + HOST)
    functions = list(file.functions)
    functions[index] = functions[index].model_copy(update={"made_of": {"code": "new"}})
    before, after = plan(file, settings), plan(replace(file, functions=tuple(functions)), settings)
    assert {new.name for old, new in zip(before.deployed, after.deployed, strict=True) if new != old} == told


def test_batching_and_limits_change_a_function_but_not_its_version(read, settings):
    """Ray restarts replicas when the version changes, and only then."""
    before = plan(read(FILE), settings).applications[2]
    tuned = plan(read(FILE.replace("onnx: b.onnx", "onnx: b.onnx, batching: {max_batch_size: 4}")), settings).applications[2]
    other = plan(read(FILE.replace("onnx: b.onnx", "onnx: other.onnx")), settings).applications[2]
    assert before["version"] == tuned["version"] != other["version"]
    assert before["args"] != tuned["args"]


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        (HOST_ALONE, "applications[0]", 3),
    ],
)
def test_what_up_cannot_apply_is_refused_with_its_line(read, text, key, line):
    """Never ignored: the same file would serve differently by `serve deploy`."""
    (problem,) = unappliable(read(text))
    assert (problem.key, problem.line) == (key, line)


def test_a_module_that_hides_one_of_the_standard_library_is_refused(tmp_path):
    """Ray's processes import from the file's folder first; numbers.py beside it would keep them from starting."""
    for name in ("numbers.py", "stages.py", "types.txt"):
        (tmp_path / name).touch()
    (problem,) = shadows([tmp_path])
    assert problem.file == str(tmp_path / "numbers.py")


def test_a_part_is_planned_like_a_function_and_remembers_whose_it_is(tmp_path):
    """The owner of placement and the state folder know it; Ray is not told."""
    path = tmp_path / "serve_config.yaml"
    path.write_text(
        "applications:\n"
        '  - {name: catalogue, route_prefix: /, import_path: "deployments:catalogue"}\n'
        '  - {name: host, route_prefix: /v2/models, import_path: "deployments:host"}\n'
        "  - name: f\n"
        "    route_prefix: /v2/models/f\n"
        '    import_path: "deployments:function"\n'
        "    args: {graph: [{stage: a, onnx: a.onnx, deployment: {min_replicas: 1}}, {stage: b, onnx: b.onnx, deployment: {}}]}\n"
    )
    found = plan(parted(specfile.read(path)), Settings(root=tmp_path, models=tmp_path))
    assert [(one.name, one.part_of, one.hosted) for one in found.deployed[2:]] == [("f", "", True), ("f.a", "f", False), ("f.b", "f", True)]
    catalogue, host, own = found.applications
    assert {data["name"]: data["part_of"] for data in catalogue["args"]["functions"]} == {"f.a": "f", "f.b": "f", "f": ""}
    assert [data["name"] for data in host["args"]["functions"]] == ["f.b", "f"]
    assert (own["name"], own["route_prefix"], "part_of" in own) == ("f.a", "/v2/models/f.a", False)
    assert own["args"]["autoscaling"]["min_replicas"] == 1
