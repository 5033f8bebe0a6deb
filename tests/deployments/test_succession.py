"""Which version of each application stands after an update, and in what order it comes to that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deployments.plan import Plan, plan
from deployments.succession import Succession
from runtime import specfile
from runtime.parts import parted
from runtime.settings import Settings

HEAD = """\
applications:
  - {name: catalogue, route_prefix: /, import_path: "deployments:catalogue"}
  - {name: host, route_prefix: /v2/models, import_path: "deployments:host"}
"""

FAILED = {"state": "failed", "message": "ValueError: no weights"}


@pytest.fixture
def planned(tmp_path):
    """The plan of a file with these functions: model and least replicas by name."""

    def planned(**functions: tuple[str, int]) -> Plan:
        lines = [
            f"  - {{name: {name}, route_prefix: /v2/models/{name}, import_path: 'deployments:function', "
            f"args: {{onnx: {model}.onnx, autoscaling: {{min_replicas: {least}}}}}}}\n"
            for name, (model, least) in functions.items()
        ]
        path = tmp_path / "serve_config.yaml"
        path.write_text(HEAD + "".join(lines))
        return plan(specfile.read(path), Settings(root=tmp_path, models=tmp_path / "models"))

    return planned


def succession(before: Plan, after: Plan) -> Succession:
    """Of one plan to another, where all that was deployed lives."""
    applications = {one["name"]: one for one in before.applications}
    return Succession(after, {entry.name: entry for entry in before.deployed}, frozenset(applications), applications)


def names(applications):
    """Of applications, in their order."""
    return [application["name"] for application in applications]


def told(plan: Plan) -> dict[str, dict[str, str]]:
    """The model that each sharing application is told of a function, by application and function."""
    return {
        one["name"]: {data["name"]: data["args"]["graph"][0]["onnx"] for data in one["args"]["functions"]}
        for one in plan.applications
        if "functions" in one.get("args", {})
    }


def test_who_is_told_of_the_functions_hears_of_what_did_start(planned):
    """First the function, then the catalogue; the host has not changed."""
    todo = succession(planned(a=("old", 1)), planned(a=("new", 1)))
    assert names(todo.first) == ["a"]
    assert todo.refused({"a": {"state": "ready", "message": ""}}) == {}
    assert todo.second(todo.kept({}), {}) == ()
    assert names(todo.third(todo.kept({}))) == ["catalogue"]
    assert (todo.gone, todo.last(todo.kept({}), {})) == ((), ((), ()))


def test_what_did_not_start_goes_back_and_the_others_go_on(planned):
    """It is deployed as it was, and written down and told as it was, with the reason; the next `up` tries again."""
    before = planned(a=("old", 1), b=("old", 1))
    todo = succession(before, planned(a=("new", 1), b=("new", 1)))
    refused = todo.refused({"a": FAILED, "b": {"state": "ready", "message": ""}})
    assert refused == {"a": "ValueError: no weights"}
    kept = todo.kept(refused)
    assert [(one["name"], one["args"]["graph"][0]["onnx"]) for one in todo.second(kept, refused)] == [("a", "old.onnx")]
    assert names(todo.third(kept)) == ["catalogue"]
    assert told(kept)["catalogue"] == {"a": "old.onnx", "b": "new.onnx"}
    (entry,) = (entry for entry in kept.deployed if entry.name == "a")
    assert (entry, entry.note) == (before.deployed[2], "keeps the version before; the new one did not start: ValueError: no weights")
    states = {name: {"state": "ready", "message": ""} for name in ("a", "b", "catalogue", "host")}
    assert next(one for one in todo.remembered(kept, states) if one["name"] == "a")["args"]["graph"][0]["onnx"] == "old.onnx"


@pytest.fixture
def split(tmp_path):
    """The plan of a function whose first stage may be split off: models of both stages, least replicas of the function and of the part."""

    def split(part: str, rest: str, least: int = 1, part_least: int | None = 1) -> Plan:
        deployment = "" if part_least is None else f", deployment: {{min_replicas: {part_least}}}"
        graph = f"[{{stage: p, onnx: {part}.onnx{deployment}}}, {{stage: r, onnx: {rest}.onnx}}]"
        args = f"{{graph: {graph}, autoscaling: {{min_replicas: {least}}}}}"
        path = tmp_path / "serve_config.yaml"
        path.write_text(f"{HEAD}  - {{name: f, route_prefix: /v2/models/f, import_path: 'deployments:function', args: {args}}}\n")
        return plan(parted(specfile.read(path)), Settings(root=tmp_path, models=tmp_path / "models"))

    return split


def test_a_part_and_its_function_go_on_together_or_not_at_all(split):
    """Whichever of them did not start."""
    todo = succession(split("old", "old"), split("new", "new"))
    fine = {"state": "ready", "message": ""}
    assert todo.refused({"f": fine, "f.p": FAILED}) == {"f.p": "ValueError: no weights", "f": "it goes with f.p, which did not start."}
    refused = todo.refused({"f": FAILED, "f.p": fine})
    assert refused == {"f": "ValueError: no weights", "f.p": "it goes with f, which did not start."}
    assert sorted(names(todo.second(todo.kept(refused), refused))) == ["f", "f.p"]
    alone = succession(split("old", "same"), split("new", "same"))
    assert alone.refused({"f.p": FAILED}) == {"f.p": "ValueError: no weights"}, "the function is as it was"


def known(application):
    """The functions that an application is told of."""
    return [one["name"] for one in application["args"]["functions"]]


@pytest.mark.parametrize("part_least", [0, 1])
def test_a_part_outlives_the_versions_that_call_it(split, part_least):
    """It goes last, and not at all while its function is as before, in the host or with processes of its own."""
    before = split("old", "old", 1, part_least)
    todo = succession(before, split("old", "new", 1, None))
    assert todo.gone == ()
    fine = todo.kept({})
    told, gone = todo.last(fine, {})
    assert gone == (("f.p",) if part_least else ())
    assert [known(one) for one in todo.third(fine)] == [["f", "f.p"], *[["f.p"]] * (not part_least)]
    assert [known(one) for one in told] == [["f"], []]
    refused = {"f": "no weights"}
    kept = todo.kept(refused)
    assert todo.last(kept, refused) == ((), ())
    assert [(entry.name, entry.part_of) for entry in kept.deployed if entry.part_of] == [("f.p", "f")]
    assert ("f.p" in names(kept.applications)) == bool(part_least)
    assert known(kept.sharing[0]) == ["f", "f.p"]


def test_a_function_that_was_not_there_or_had_failed_has_nothing_to_go_back_to(planned):
    """It has failed, and stays so until the next `up`."""
    before, after = planned(a=("old", 1)), planned(a=("new", 1), c=("new", 1))
    todo = succession(before, after)
    assert todo.refused({"a": {"state": "ready", "message": ""}, "c": FAILED}) == {}
    lost = Succession(after, todo.before, todo.alive - {"a"}, todo.former)
    assert lost.refused({"a": FAILED, "c": FAILED}) == {}


def test_a_function_leaves_the_host_when_its_deployment_runs(planned):
    """Until then the deployment has no prefix, and the host is told nothing."""
    todo = succession(planned(a=("m", 0)), planned(a=("m", 1)))
    (first,) = todo.first
    assert (first["name"], first["routed"]) == ("a", False)
    assert todo.moving == {"a"}
    (second,) = todo.second(todo.kept({}), {})
    assert (second["name"], "routed" in second) == ("a", False)
    assert names(todo.third(todo.kept({}))) == ["catalogue", "host"]


def test_a_function_that_cannot_leave_the_host_stays_there(planned):
    """What was deployed of it goes."""
    before = planned(a=("old", 0))
    todo = succession(before, planned(a=("new", 1)))
    refused = todo.refused({"a": FAILED})
    kept = todo.kept(refused)
    assert told(kept) == {"catalogue": {"a": "old.onnx"}, "host": {"a": "old.onnx"}}
    assert (kept.deployed, todo.second(kept, refused), todo.third(kept), todo.last(kept, refused)) == (
        before.deployed,
        (),
        (),
        ((), ("a",)),
    )


def test_a_function_that_the_host_takes_over_is_deleted_last(planned):
    """After the host has been told of it; what the file has no more goes at once."""
    todo = succession(planned(a=("m", 1), b=("m", 1)), planned(a=("m", 0)))
    assert (names(todo.first), todo.gone, todo.last(todo.kept({}), {})[1]) == ([], ("b",), ("a",))
    assert names(todo.third(todo.kept({}))) == ["catalogue", "host"]


def test_a_promoted_function_keeps_its_prefix(planned):
    """Its deployment, made by the owner of placement, is renewed in place."""
    todo = succession(planned(a=("old", 0)), planned(a=("new", 1)))
    promoted = Succession(todo.wanted, todo.before, todo.alive | {"a"}, todo.former)
    assert [one for one in promoted.first if "routed" in one] == []


def test_the_host_is_asked_about_functions_that_it_loads_anew(planned):
    """Those that changed, by the version they are to take."""
    todo = succession(planned(a=("old", 0), b=("m", 0)), planned(a=("new", 0), b=("m", 0), c=("m", 0)))
    kept = todo.kept({})
    assert todo.told(kept).keys() == {"a"}
    back = todo.kept({"a": "no weights"})
    assert told(back)["host"] == {"a": "old.onnx", "b": "m.onnx", "c": "m.onnx"}


def test_an_update_that_is_interrupted_is_done_again(planned):
    """Nothing that may have changed passes for what stands."""
    before = planned(a=("old", 1), b=("m", 1), gone=("m", 1), moves=("m", 1))
    todo = succession(before, planned(a=("new", 1), b=("m", 1), moves=("m", 0)))
    assert [entry.name for entry in todo.begun if not entry.fingerprint] == ["catalogue", "host", "a", "gone", "moves"]
    again = Succession(todo.wanted, {entry.name: entry for entry in todo.begun}, todo.alive, todo.former)
    assert (names(again.first), again.gone, again.last(again.kept({}), {})[1]) == (["a"], ("gone",), ("moves",))


def test_a_version_that_waits_for_room_is_not_one_to_go_back_to(planned):
    """Should it fail later, the one that serves meanwhile is."""
    todo = succession(planned(a=("old", 1)), planned(a=("new", 1)))
    states = {"a": {"state": "waking", "message": "waits"}, "catalogue": {"state": "ready", "message": ""}}
    (kept,) = (one for one in todo.remembered(todo.kept({}), states) if one["name"] == "a")
    assert kept["args"]["graph"][0]["onnx"] == "old.onnx"


def test_a_part_that_is_fused_again_goes_when_its_function_calls_it_no_more(planned):
    """Others that the file has no more go first: somebody may wait for their room."""
    before, after = planned(**{"a.part": ("m", 1), "a": ("old", 1), "b": ("m", 1)}), planned(a=("new", 1))
    before = replace(before, deployed=tuple(replace(one, part_of="a") if one.name == "a.part" else one for one in before.deployed))
    todo = succession(before, after)
    assert (todo.gone, todo.last(todo.kept({}), {})[1]) == (("b",), ("a.part",))
    assert {one.name for one in todo.begun} == {"catalogue", "host", "a", "a.part", "b"}
