"""Which version of each application runs after an update, and in which steps it comes to that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deployments.ray_support.serve_status import AppState
from deployments.rollout.plan import Plan, plan
from deployments.rollout.update_order import UpdateOrder, UpdateStep
from runtime.declaration import config_file
from runtime.declaration.function_spec import FunctionSpec
from runtime.settings import Settings
from tests.deployments.rollout.deployable import deployable
from tests.problems import expect_values

HEAD = """\
applications:
  - {name: catalogue, route_prefix: /, import_path: "deployments:catalogue"}
  - {name: host, route_prefix: /v2/models, import_path: "deployments:host"}
"""

READY = AppState("", "ready", 1)
FAILED = AppState("", "failed", message="ValueError: no weights")


@pytest.fixture
def planned(tmp_path):
    """The plan of a file with these functions: model and `min_replicas` by name."""

    def planned(**functions: tuple[str, int]) -> Plan:
        lines = [
            f"  - {{name: {name}, route_prefix: /v2/models/{name}, "
            f"import_path: 'deployments:function', "
            f"args: {{onnx: {model}.onnx, autoscaling: {{min_replicas: {minimum}}}}}}}\n"
            for name, (model, minimum) in functions.items()
        ]
        path = tmp_path / "serve_config.yaml"
        path.write_text(HEAD + "".join(lines))
        config = deployable(config_file.read(path))
        return plan(config, Settings(root=tmp_path, models=tmp_path / "models"))

    return planned


def update(before: Plan, after: Plan, **more: frozenset[str]) -> UpdateOrder:
    """Of one plan to another, where all that was deployed is alive."""
    applications = {app.name: app for app in before.applications}
    deployed = {entry.name: entry for entry in before.deployed}
    return UpdateOrder(after, deployed, frozenset(applications), applications, **more)


def refused_at_start(order: UpdateOrder, states: dict[str, AppState]) -> dict[str, str]:
    """What keeps its previous version after the new deployments were started."""
    return order.with_dependents(order.start_new().failures(states))


def names(applications):
    """Of applications, in their order."""
    return [application.name for application in applications]


def listed_models(plan: Plan) -> dict[str, dict[str, str]]:
    """The model of each function in the lists of the host and the catalogue, by application and
    function.
    """
    return {
        app.name: {data.name: data.args["graph"][0]["onnx"] for data in app.functions}
        for app in plan.applications
        if app.lists_functions
    }


def test_the_catalogue_gets_the_new_list_after_the_function_has_started(planned):
    """The host has not changed."""
    order = update(planned(a=("old", 1)), planned(a=("new", 1)))
    assert names(order.start_new().deploy) == ["a"]
    assert refused_at_start(order, {"a": READY}) == {}
    assert order.route_or_roll_back() == UpdateStep()
    assert names(order.tell_host_and_catalogue().deploy) == ["catalogue"]
    assert (order.start_new().delete, order.delete_old()) == ((), UpdateStep())


def test_a_function_that_did_not_start_is_rolled_back_and_the_others_are_updated(planned):
    """It is deployed, written down and listed as before, with the reason; the next `up` tries
    again.
    """
    before = planned(a=("old", 1), b=("old", 1))
    order = update(before, planned(a=("new", 1), b=("new", 1)))
    refused = refused_at_start(order, {"a": FAILED, "b": READY})
    assert refused == {"a": "ValueError: no weights"}
    assert [
        (app.name, app.args["graph"][0]["onnx"]) for app in order.route_or_roll_back(refused).deploy
    ] == [("a", "old.onnx")]
    assert names(order.tell_host_and_catalogue(refused).deploy) == ["catalogue"]
    final = order.plan_without(refused)
    assert listed_models(final)["catalogue"] == {"a": "old.onnx", "b": "new.onnx"}
    (entry,) = (entry for entry in final.deployed if entry.name == "a")
    assert entry == before.deployed[2]
    expect_values(entry.note, "version before", "ValueError: no weights")
    states = dict.fromkeys(("a", "b", "catalogue", "host"), READY)
    (last,) = (app for app in order.last_running(final, states) if app.name == "a")
    assert last.args["graph"][0]["onnx"] == "old.onnx"


@pytest.fixture
def split(tmp_path):
    """The plan of a function whose first stage may be split off: models of both stages, and
    `min_replicas` of the function and of the split stage.
    """

    def split(stage: str, rest: str, minimum: int = 1, stage_minimum: int | None = 1) -> Plan:
        deployment = (
            "" if stage_minimum is None else f", deployment: {{min_replicas: {stage_minimum}}}"
        )
        graph = f"[{{stage: p, onnx: {stage}.onnx{deployment}}}, {{stage: r, onnx: {rest}.onnx}}]"
        args = f"{{graph: {graph}, autoscaling: {{min_replicas: {minimum}}}}}"
        path = tmp_path / "serve_config.yaml"
        path.write_text(
            f"{HEAD}  - {{name: f, route_prefix: /v2/models/f, "
            f"import_path: 'deployments:function', args: {args}}}\n"
        )
        config = deployable(config_file.read(path))
        return plan(config, Settings(root=tmp_path, models=tmp_path / "models"))

    return split


def test_a_split_stage_and_its_function_are_updated_together_or_not_at_all(split):
    """Whichever of them did not start."""
    order = update(split("old", "old"), split("new", "new"))
    for failed, other in (("f.p", "f"), ("f", "f.p")):
        refused = refused_at_start(order, {failed: FAILED, other: READY})
        assert refused.keys() == {"f", "f.p"}
        assert refused[failed] == "ValueError: no weights"
        expect_values(refused[other], f"with {failed},", "start")
    assert sorted(names(order.route_or_roll_back(refused).deploy)) == ["f", "f.p"]
    stage_only = update(split("old", "same"), split("new", "same"))
    assert refused_at_start(stage_only, {"f.p": FAILED}) == {"f.p": "ValueError: no weights"}, (
        "the function is as it was"
    )


def listed(application):
    """The functions in an application's list."""
    return [data.name for data in application.functions]


@pytest.mark.parametrize("stage_minimum", [0, 1])
def test_a_split_stage_is_deleted_after_the_versions_that_call_it(split, stage_minimum):
    """Last, and not at all while its function keeps its previous version, in the host or with a
    deployment of its own.
    """
    before = split("old", "old", 1, stage_minimum)
    order = update(before, split("old", "new", 1, None))
    assert order.start_new().delete == ()
    last = order.delete_old()
    assert last.delete == (("f.p",) if stage_minimum else ())
    (catalogue,) = order.tell_host_and_catalogue().deploy  # the host knows what it is to know
    assert listed(catalogue) == ["f", "f.p"]
    assert [listed(app) for app in last.deploy] == [["f"], []]
    assert last.calls_end_first, "previous versions may still call it"
    refused = {"f": "no weights"}
    final = order.plan_without(refused)
    assert order.delete_old(refused) == UpdateStep()
    assert [(entry.name, entry.part_of) for entry in final.deployed if entry.part_of] == [
        ("f.p", "f")
    ]
    assert ("f.p" in names(final.applications)) == bool(stage_minimum)
    assert listed(final.list_receivers[0]) == ["f", "f.p"]


def test_a_function_that_is_new_or_had_failed_cannot_be_rolled_back(planned):
    """It has failed, and stays so until the next `up`."""
    before, after = planned(a=("old", 1)), planned(a=("new", 1), c=("new", 1))
    order = update(before, after)
    assert refused_at_start(order, {"a": READY, "c": FAILED}) == {}
    lost = replace(order, alive=order.alive - {"a"})
    assert refused_at_start(lost, {"a": FAILED, "c": FAILED}) == {}


def test_a_function_leaves_the_host_when_its_deployment_runs(planned):
    """Until then the deployment has no prefix, and the list of the host stays as it is."""
    order = update(planned(a=("m", 0)), planned(a=("m", 1)))
    (started,) = order.start_new().deploy
    assert (started.name, started.is_routed) == ("a", False)
    routed = order.route_or_roll_back()
    (application,) = routed.deploy
    assert (application.name, application.is_routed) == ("a", True)
    assert routed.await_prefixes == {"/v2/models/a"}
    notified = order.tell_host_and_catalogue()
    assert (notified.calls_end_first, names(notified.deploy)) == (True, ["catalogue", "host"])


def test_a_function_that_cannot_leave_the_host_stays_there(planned):
    """What was deployed of it is deleted."""
    before = planned(a=("old", 0))
    order = update(before, planned(a=("new", 1)))
    refused = refused_at_start(order, {"a": FAILED})
    final = order.plan_without(refused)
    assert listed_models(final) == {"catalogue": {"a": "old.onnx"}, "host": {"a": "old.onnx"}}
    assert final.deployed == before.deployed
    assert order.route_or_roll_back(refused) == UpdateStep()
    assert order.delete_replaced(refused) == UpdateStep(delete=("a",))
    notified = order.tell_host_and_catalogue(refused)
    (catalogue,) = notified.deploy  # it has left the function alone until now
    assert (catalogue.name, "held" in catalogue.args) == ("catalogue", False)
    assert not notified.calls_end_first


def test_the_catalogue_leaves_a_function_alone_that_gets_a_deployment_for_good(planned):
    """Before anything is deployed, one that the host serves until then and one that is new; the
    list of functions stays.
    """
    before = planned(a=("m", 0), b=("m", 1), c=("m", 0))
    order = update(before, planned(a=("m", 1), b=("m", 1), c=("m", 0), d=("m", 1)))
    (catalogue,) = order.announce().deploy
    assert (catalogue.name, catalogue.args["held"]) == ("catalogue", ["a", "d"])
    assert catalogue.functions == before.applications[0].functions
    same = update(before, planned(a=("n", 0), b=("n", 1)))
    assert same.announce() == UpdateStep()


def test_a_function_that_the_host_takes_over_is_deleted_last(planned):
    """After the host has it in its list, and before what the file no longer has."""
    order = update(planned(a=("m", 1), b=("m", 1)), planned(a=("m", 0)))
    started = order.start_new()
    assert (started.deploy, started.delete, started.delete_if_short) == ((), (), ())
    assert (order.delete_replaced().delete, order.delete_old().delete) == (("a",), ("b",))
    assert names(order.tell_host_and_catalogue().deploy) == ["catalogue", "host"]


def test_a_promoted_function_keeps_its_prefix(planned):
    """Its deployment, made by the placement controller, is updated in place."""
    order = update(planned(a=("old", 0)), planned(a=("new", 1)))
    promoted = replace(order, alive=order.alive | {"a"})
    assert [app for app in promoted.start_new().deploy if not app.is_routed] == []


def test_loaded_functions_that_changed_are_awaited(planned):
    """By the version that they are to take; a sleeping one is not."""
    before = planned(a=("old", 0), b=("m", 0), d=("old", 0))
    after = planned(a=("new", 0), b=("m", 0), c=("m", 0), d=("new", 0))
    order = update(before, after, awake=frozenset({"a", "b"}))
    versions = {data.name: data.version for data in after.list_receivers[0].functions}
    assert order.tell_host_and_catalogue().await_versions == {"a": versions["a"]}
    back = order.plan_without({"a": "no weights"})
    assert listed_models(back)["host"] == {
        "a": "old.onnx",
        "b": "m.onnx",
        "c": "m.onnx",
        "d": "new.onnx",
    }


def test_what_the_host_could_not_load_is_rolled_back(planned):
    """Both get the previous list again; nothing happens where all was loaded."""
    order = update(planned(a=("old", 0)), planned(a=("new", 0)), awake=frozenset({"a"}))
    refused = {"a": "no weights"}
    assert names(order.roll_back_hosted(refused, {"a"}).deploy) == ["catalogue", "host"]
    assert order.roll_back_hosted({}, ()) == UpdateStep()


def test_an_update_that_is_interrupted_is_done_again(planned):
    """Nothing that may have changed is written down as unchanged."""
    before = planned(a=("old", 1), b=("m", 1), gone=("m", 1), moves=("m", 1))
    order = update(before, planned(a=("new", 1), b=("m", 1), moves=("m", 0)))
    assert [entry.name for entry in order.deployed_meanwhile if not entry.fingerprint] == [
        "catalogue",
        "host",
        "a",
        "gone",
        "moves",
    ]
    again = replace(order, before={entry.name: entry for entry in order.deployed_meanwhile})
    started = again.start_new()
    assert (names(started.deploy), started.delete_if_short) == (["a"], (("gone",),))
    assert (again.delete_replaced().delete, again.delete_old().delete) == (("moves",), ("gone",))


def test_a_version_that_waits_for_resources_is_not_one_to_roll_back_to(planned):
    """Should it fail later, the one that serves meanwhile is."""
    order = update(planned(a=("old", 1)), planned(a=("new", 1)))
    states = {"a": AppState("a", "waking", message="waits"), "catalogue": READY}
    (last,) = (app for app in order.last_running(order.plan_without({}), states) if app.name == "a")
    assert last.args["graph"][0]["onnx"] == "old.onnx"


def test_a_split_stage_that_is_fused_again_is_deleted_when_its_function_does_not_call_it(planned):
    """Others that the file does not have any more may go first: if their resources are needed."""
    before, after = (
        planned(**{"a.part": ("m", 1), "a": ("old", 1), "b": ("m", 1)}),
        planned(a=("new", 1)),
    )
    before = replace(
        before,
        deployed=tuple(
            replace(entry, part_of="a") if entry.name == "a.part" else entry
            for entry in before.deployed
        ),
    )
    order = update(before, after)
    assert order.start_new().delete == ()
    assert order.start_new().delete_if_short == (("b",), ("a.part",))
    assert order.delete_old().delete == ("a.part", "b")
    assert {entry.name for entry in order.deployed_meanwhile} == {
        "catalogue",
        "host",
        "a",
        "a.part",
        "b",
    }


@pytest.fixture
def coded(tmp_path):
    """The plan of functions in the host, with their code, by name."""

    def coded(**code: str) -> Plan:
        lines = [
            f"  - {{name: {name}, route_prefix: /v2/models/{name}, "
            f"import_path: 'deployments:function', "
            f"args: {{graph: [{{stage: s, python: 'm_{name}:f'}}]}}}}\n"
            for name in code
        ]
        path = tmp_path / "serve_config.yaml"
        path.write_text(HEAD + "".join(lines))
        file = config_file.read(path)
        functions = tuple(
            FunctionSpec.of(spec).with_deployed(made_of={"code": code[spec.name]})
            for spec in file.functions
        )
        modules = {name: {f"m_{name}": digest} for name, digest in code.items()}
        config = deployable(replace(file, functions=functions), modules)
        return plan(config, Settings(root=tmp_path, models=tmp_path / "models"))

    return coded


def host_of(plan: Plan):
    """The application of the host."""
    return next(app for app in plan.applications if app.name == "host")


def test_a_new_host_that_does_not_start_takes_no_function(coded):
    """The previous one goes on, under its version, with the functions whose code is in it; others
    change there in place.
    """
    before = coded(a="1", b="1")
    order = update(before, coded(a="2", b="1", c="1"), awake=frozenset({"a", "b"}))
    notified = order.tell_host_and_catalogue()
    assert (notified.load_first, dict(notified.await_versions)) == (("a",), {})
    assert notified.failures({"host": READY}) == {}
    assert notified.failures({"host": FAILED}) == {"a": "ValueError: no weights"}
    promoted = replace(order, promoted=frozenset({"a"})).tell_host_and_catalogue()
    assert (promoted.load_first, list(promoted.await_versions)) == ((), ["a"])
    assert promoted.failures({"host": FAILED}) == {}
    refused = {"a": "no"}
    assert not order.tell_host_and_catalogue(refused).fallbacks, "no new host starts"
    host = host_of(order.plan_without(refused))
    assert host.version == host_of(before).version
    assert host.code == {"m_a": "1", "m_b": "1", "m_c": "1"}
    assert {data.name: data.args["deployed"]["made_of"]["code"] for data in host.functions} == {
        "a": "1",
        "b": "1",
        "c": "1",
    }


def test_a_function_that_keeps_its_code_in_the_host_keeps_the_host(coded):
    """Whatever the reason: the others with other code keep theirs as well."""
    order = update(coded(a="1", b="1", c="1"), coded(a="2", b="2", c="1"))
    refused = order.with_dependents({"a": "no"})
    assert (refused.keys(), refused["a"]) == ({"a", "b"}, "no")
    expect_values(refused["b"], "host with a,", "start")
    assert order.with_dependents({"x": "no"}) == {"x": "no"}
