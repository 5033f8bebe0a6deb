"""What a file needs of a cluster, and what of it is there already."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from deployments.preflight import LoadResult
from deployments.rollout.plan import Plan, PlannedApp, plan
from deployments.rollout.plan_comparison import (
    changes,
    deployed_without,
    describe_changes,
    keep_host_version,
    without_functions,
)
from deployments.rollout.prepare import DeployableFunction
from runtime.declaration import config_file
from runtime.declaration.function_spec import FunctionSpec
from runtime.settings import Settings
from tests.deployments.rollout.deployable import deployable
from tests.runtime.declaration.linked import calling

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


@pytest.fixture
def read(tmp_path):
    """A file read from text."""

    def read(text):
        path = tmp_path / "serve_config.yaml"
        path.write_text(text)
        return deployable(config_file.read(path))

    return read


@pytest.fixture
def settings(tmp_path):
    """Settings that nothing is set in."""
    return Settings(root=tmp_path, models=tmp_path / "models")


def names(applications):
    """Of applications, in their order."""
    return [application.name for application in applications]


@pytest.mark.parametrize(
    ("is_open", "location", "expected"), [(False, "HeadOnly", None), (True, "EveryNode", True)]
)
def test_where_other_machines_may_join_each_gets_a_proxy_and_a_host(
    read, settings, is_open, location, expected
):
    """On one machine there is one proxy, and the hosts are counted."""
    wanted = plan(
        read(FILE.replace("applications:\n", "applications:\n" + HOST)), settings, is_open=is_open
    )
    assert wanted.serve["proxy_location"] == location
    (host,) = [one for one in wanted.applications if one.name == "host"]
    assert host.args.get("everywhere") is expected


def test_a_plan_has_every_application_in_file_order(read, settings):
    """With the arguments of `serve.start`, and what a replica takes."""
    wanted = plan(read(FILE), settings)
    assert names(wanted.applications) == ["catalogue", "a", "b"]
    assert wanted.serve["http_options"] == {
        "host": "127.0.0.1",
        "port": 8000,
        "keep_alive_timeout_s": 5,
    }
    assert wanted.deployed[1].resources == {"num_cpus": 1.0, "num_gpus": 0.5}
    assert wanted.prefixes == {"/", "/v2/models/a", "/v2/models/b"}


def test_the_catalogue_gets_the_list_of_functions(read, settings):
    """It has no other way to know what a sleeping one is called."""
    functions = plan(read(FILE), settings).applications[0].functions
    assert (functions[0].name, functions[0].url) == ("a", "/v2/models/a")
    assert (functions[0].is_always_own, functions[0].is_probed) == (True, False)
    assert functions[0].args["description"] == "A."


HOST = "  - {name: host, route_prefix: /v2/models, import_path: 'deployments:host'}\n"


@pytest.mark.parametrize(
    ("args", "prefix", "hosted"),
    [
        ("", "/v2/models/c", True),
        (", tier: own", "/v2/models/c", False),
        (", limits: {replay: false}", "/v2/models/c", False),
        (", autoscaling: {min_replicas: 1}", "/v2/models/c", False),
        (", autoscaling: {initial_replicas: 1}", "/v2/models/c", False),
        (", resources: {num_gpus: 0.25}", "/v2/models/c", False),
        ("", "/elsewhere/c", False),
        ("", "/v2/modelsc", False),
    ],
)
def test_what_must_have_a_deployment_of_its_own_is_deployed_and_the_host_gets_the_rest(
    read, settings, args, prefix, hosted
):
    """A function that the host can serve is only a name until it is called."""
    more = (
        f"  - {{name: c, route_prefix: {prefix}, import_path: 'deployments:function', "
        f"args: {{onnx: c.onnx{args}}}}}\n"
    )
    wanted = plan(read(FILE + HOST + more), settings, {"c": LoadResult("c", memory_bytes=7)})
    assert ("c" in names(wanted.applications)) is not hosted
    assert (prefix in wanted.prefixes) is not hosted
    host = next(application for application in wanted.applications if application.name == "host")
    shared = {data.name: data for data in host.functions}
    assert set(shared) == {"b", "c"} if hosted else {"b"}
    if hosted:
        assert (shared["c"].memory_bytes, shared["c"].is_probed, host.args["owner"]) == (
            7,
            True,
            "catalogue",
        )


def test_a_function_that_moves_between_host_and_own_is_deployed_or_deleted(read, settings):
    """The driver does what the file says; what load decides is the controller's."""
    without_host, with_host = plan(read(FILE), settings), plan(read(FILE + HOST), settings)
    assert changes(with_host, without_host.deployed, ["catalogue", "a", "b"]).deleted == ("b",)
    todo = changes(without_host, with_host.deployed, ["catalogue", "a", "host"])
    assert (names(todo.applications), todo.deleted) == (["catalogue", "b"], ("host",))


def test_the_host_and_the_catalogue_list_one_function_less(read, settings):
    """`wakeful down FUNCTION` of one that has no application."""
    (catalogue, host) = plan(read(FILE + HOST), settings).list_receivers
    assert [data.name for data in without_functions(catalogue, ["b"]).functions] == ["a"]
    assert without_functions(host, ["b"]).functions == ()


@pytest.mark.parametrize(
    ("flag", "variable", "port"),
    [(None, None, 8000), (None, 8001, 8001), (8002, 8001, 8002), (8002, None, 8002)],
)
def test_a_flag_goes_before_the_environment_and_that_before_the_file(
    read, settings, flag, variable, port
):
    """For the port as for the address."""
    wanted = plan(read(FILE), replace(settings, port=variable), port=flag)
    assert (wanted.port, wanted.serve["http_options"]["port"]) == (port, port)


def test_nothing_changes_when_everything_runs(read, settings):
    """`up` again is quick and restarts nothing."""
    wanted = plan(read(FILE), settings)
    assert changes(wanted, wanted.deployed, ["catalogue", "a", "b"]) == changes(
        wanted, wanted.deployed, ["b", "a", "catalogue"]
    )
    assert changes(wanted, wanted.deployed, ["catalogue", "a", "b"]).applications == ()


def test_what_changed_what_failed_and_what_is_new_is_deployed(read, settings):
    """And what the file has no more is deleted."""
    before = plan(read(FILE), settings)
    after = plan(
        read(
            FILE.replace("num_gpus: 0.5", "num_gpus: 0.25")
            .replace("name: b", "name: c")
            .replace("models/b", "models/c")
        ),
        settings,
    )
    todo = changes(after, before.deployed, ["catalogue", "a", "b"])
    assert names(todo.applications) == ["catalogue", "a", "c"]
    assert todo.deleted == ("b",)
    assert names(changes(before, before.deployed, ["catalogue", "a"]).applications) == ["b"]


@pytest.mark.parametrize(
    ("index", "expected"), [(0, {"a", "catalogue"}), (1, {"b", "catalogue", "host"})]
)
def test_other_code_is_another_version_of_its_function_alone(read, settings, index, expected):
    """With a deployment of its own and in the host; those that list functions change with it."""
    config = read(FILE + HOST)
    functions = list(config.functions)
    spec = functions[index].spec.with_deployed(made_of={"code": "new"})
    functions[index] = DeployableFunction(spec)
    before = plan(config, settings)
    after = plan(replace(config, functions=tuple(functions)), settings)
    assert {
        new.name for old, new in zip(before.deployed, after.deployed, strict=True) if new != old
    } == expected


def hosts(wanted):
    """The version, the modules and the hash of a plan's host."""
    (entry,) = (entry for entry in wanted.deployed if entry.role == "host")
    (application,) = (one for one in wanted.applications if one.name == "host")
    return application.version, application.code, entry.fingerprint


def test_only_other_code_starts_a_new_host(read, settings):
    """Of a module that the host may have imported, also for a function that is gone; not a new one,
    nor other arguments.
    """
    file = read(FILE + HOST).resolved.file

    def planned(modules, previous=None, **more):
        wanted = plan(deployable(file, {"b": modules}), settings)
        return keep_host_version(
            wanted, {one.name: one for one in (previous or wanted).applications}, **more
        )

    first = planned({"m": "1"})
    added = planned({"n": "1"}, first)
    assert (hosts(added)[0], hosts(added)[1]) == (hosts(first)[0], {"m": "1", "n": "1"})
    assert hosts(added)[2] != hosts(first)[2], "it is written down"
    assert hosts(planned({"m": "1"}, added))[0] == hosts(first)[0]
    changed = planned({"m": "2"}, added)
    assert (hosts(changed)[0] != hosts(first)[0], hosts(changed)[1]) == (True, {"m": "2"})
    back = planned({"m": "1"}, changed)
    assert hosts(back)[0] not in (hosts(changed)[0], hosts(first)[0])
    assert hosts(planned({"m": "1"}, first, has_undeployed_code=True))[0] != hosts(first)[0]
    assert hosts(planned({"m": "1"}, first))[2] == hosts(first)[2]


def test_other_pages_that_may_call_are_another_version_of_the_catalogue(read, settings):
    """Its new replica has HAProxy reloaded, which reads them then."""

    def version(http: str) -> str:
        text = FILE.replace("http_options:", f"{http}http_options:")
        return plan(read(text), settings).applications[0].version

    pages = [f"http: {{cors: {{origins: [https://{one}.example]}}}}\n" for one in ("a", "b")]
    bound = "http: {connections_per_address: 7}\n"
    assert len({version(http) for http in ("", *pages, bound)}) == 4
    assert version(pages[0]) == version(pages[0])


def test_batching_and_limits_change_a_function_but_not_its_version(read, settings):
    """Ray restarts replicas when the version changes, and only then."""
    before = plan(read(FILE), settings).applications[2]
    tuned = plan(
        read(FILE.replace("onnx: b.onnx", "onnx: b.onnx, batching: {max_batch_size: 4}")), settings
    ).applications[2]
    other = plan(read(FILE.replace("onnx: b.onnx", "onnx: other.onnx")), settings).applications[2]
    assert before.version == tuned.version != other.version
    assert before.args != tuned.args


def test_a_split_stage_is_planned_like_a_function_and_names_its_function(tmp_path):
    """For the placement controller and the state folder; not for Ray."""
    path = tmp_path / "serve_config.yaml"
    path.write_text(
        "applications:\n"
        '  - {name: catalogue, route_prefix: /, import_path: "deployments:catalogue"}\n'
        '  - {name: host, route_prefix: /v2/models, import_path: "deployments:host"}\n'
        "  - name: f\n"
        "    route_prefix: /v2/models/f\n"
        '    import_path: "deployments:function"\n'
        "    args:\n"
        "      graph:\n"
        "        - {stage: a, onnx: a.onnx, deployment: {min_replicas: 1}}\n"
        "        - {stage: b, onnx: b.onnx, deployment: {}}\n"
    )
    found = plan(deployable(config_file.read(path)), Settings(root=tmp_path, models=tmp_path))
    assert [(one.name, one.part_of, one.hosted) for one in found.deployed[2:]] == [
        ("f", "", True),
        ("f.a", "f", False),
        ("f.b", "f", True),
    ]
    catalogue, host, own = found.applications
    assert {data.name: data.part_of for data in catalogue.functions} == {
        "f.a": "f",
        "f.b": "f",
        "f": "",
    }
    assert [data.name for data in host.functions] == ["f.b", "f"]
    assert (own.name, own.route_prefix, "part_of" in own.to_dict()) == (
        "f.a",
        "/v2/models/f.a",
        False,
    )
    assert own.args["autoscaling"]["min_replicas"] == 1


def test_what_was_taken_down_is_declared_again_by_the_next_up(read, settings):
    """Though the file is as before: what is written down is the list that the host and the
    catalogue have since.
    """
    wanted = plan(read(FILE.replace("applications:\n", "applications:\n" + HOST)), settings)
    left = [without_functions(one, ["b"]) for one in wanted.applications]
    standing = deployed_without(wanted.deployed, left, ["b"])
    assert [entry.name for entry in standing] == [
        entry.name for entry in wanted.deployed if entry.name != "b"
    ]
    again = changes(wanted, standing, [one.name for one in left])
    assert names(again.applications) == ["host", "catalogue"]


def test_what_is_written_down_of_an_application_reads_back_equal(read, settings):
    """With what its functions call, of which each declaration is written once; in an application
    of its own, and in the lists of the host and the catalogue.
    """
    leaf = calling(name="leaf", description="a text " * 100)
    callers = [calling(leaf, name=name) for name in ("f", "g", "h")]
    callers.append(calling(leaf, *callers, name="own", tier="own"))
    config = read(FILE.replace("applications:\n", "applications:\n" + HOST))
    functions = tuple(map(DeployableFunction, (leaf, *callers)))
    wanted = plan(replace(config, functions=(*config.functions, *functions)), settings)
    own = PlannedApp("own", "/v2/models/own", "deployments:function", callers[-1].to_args())
    for app in (*wanted.applications, own):
        text = json.dumps(app.to_dict())
        assert PlannedApp.from_dict(json.loads(text)) == app
        if app.lists_functions:
            assert text.count(leaf.description) == 2, "of itself, and for all that call it"
    assert json.dumps(own.to_dict()).count(leaf.description) == 1
    assert len(wanted.list_receivers) == 2


def test_a_caller_is_deployed_again_where_its_callee_is_declared_otherwise(read, settings):
    """By its digest. Its version stays, so no replica restarts; and where the callee is only made of
    something else, nothing of the caller is new.
    """

    def planned(callee: FunctionSpec) -> Plan:
        caller = calling(callee, name="b", tier="own")
        functions = (read(FILE).functions[0], DeployableFunction(caller))
        return plan(replace(read(FILE), functions=functions), settings)

    callee = calling(name="leaf")
    before = planned(callee)
    for other, is_new in (
        (calling(name="leaf", limits={"max_rows": 5}), True),
        (callee.with_deployed(made_of={"code": "2"}), False),
    ):
        after = planned(other)
        (was,), (now,) = ([a for a in of.applications if a.name == "b"] for of in (before, after))
        assert was.version == now.version
        assert (
            "b" in names(changes(after, before.deployed, ["catalogue", "a", "b"]).applications)
        ) is (is_new)
        assert ("b" in describe_changes(before.applications, after.applications)) is is_new
