"""The file of a profile: what it gives the simulator, and what is refused or doubted of it."""

from __future__ import annotations

import json

import pytest

from deployments.scaling.planning.profiles import read_profile, this_machine, write_profile
from runtime.errors import DeclarationError, NotFound
from tests.deployments.scaling.planning.made_profiles import BATCH, declare, profile_of, profiled
from tests.problems import expect_values


def test_a_profile_is_read_as_it_was_written(tmp_path):
    """Whole, as JSON."""
    profile = profile_of(declare())
    write_profile(profile, tmp_path / "new" / "profile.json")
    assert read_profile(tmp_path / "new" / "profile.json") == profile
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["profile.json"]


def test_functions_that_were_measured_before_stay(tmp_path):
    """On this machine; of another one nothing is kept."""
    file = tmp_path / "profile.json"
    write_profile(profile_of(declare("one")), file)
    write_profile(profile_of(declare("two")), file)
    assert set(read_profile(file).functions) == {"one", "two"}
    other = profile_of(declare("three"))
    machine = other.machine.model_copy(update={"cores": other.machine.cores + 1})
    write_profile(other.model_copy(update={"machine": machine}), file)
    assert set(read_profile(file).functions) == {"three"}


def test_the_simulator_gets_its_numbers():
    """Batches by length and rows; of one length, that."""
    batches = [
        {**BATCH, "length": length, "body_bytes": 4 * length, "rows": rows,
         "seconds": 0.001 * length * rows}
        for length in (10, 20) for rows in (1, 4)
    ]  # fmt: skip
    one = profiled(batches=batches, served=1.5, idle_extra_s=[[0.0, 0.0], [0.1, 0.004]])
    costs = one.costs()
    assert costs.served_s(1, 10, idle_s=0.05) == pytest.approx(0.015 + 0.002)
    assert one.costs(times=2.0).served_s(1, 10, idle_s=0.0) == pytest.approx(0.03)
    assert costs.length == 10
    assert costs.times.batch_s(4, 15) == pytest.approx(0.06)
    assert (costs.wake_s, costs.memory_bytes, costs.beside) == (0.1, 60_000_000, (0.002,))
    assert [one.length_of(size) for size in (40, 60, 120, 0)] == [10, 15, 30, 1]
    assert profiled().length_of(1000) == 0


def damaged(**changes) -> str:
    """A profile's text with other values."""
    data = profile_of(declare()).model_dump(mode="json")
    return json.dumps({**data, **changes})


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        pytest.param(None, "", ["not there", "`wakeful profile`"], id="not there"),
        pytest.param("{", "", ["damaged", "`wakeful profile`"], id="cut"),
        pytest.param("[]", "wakeful_profile", ["no profile"], id="another file"),
        pytest.param(
            damaged(wakeful_profile=9), "wakeful_profile", ["form 9", "form 3"], id="later"
        ),
        pytest.param(damaged(machine=3), "machine", ["3"], id="a section"),
        pytest.param(damaged(process_bytes=-1), "process_bytes", ["0"], id="a number"),
        pytest.param(damaged(more=1), "more", ["unknown key"], id="an unknown key"),
    ],
)
def test_another_file_is_refused(tmp_path, text, key, words):
    """With what it is, and how a right one is made."""
    file = tmp_path / "profile.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(DeclarationError) as refused:
        read_profile(file)
    assert [(one.file, one.key) for one in refused.value.problems] == [(str(file), key)]
    expect_values(refused.value, *words)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"batches": []}, "functions.f.batches"),
        ({"batches": [{**BATCH, "rows": 1, "seconds": 1, "spread": spread}
                      for spread in ([1], [1, -1])]},
         "functions.f.batches[1].spread[1]"),
        ({"beside_s": []}, "functions.f.beside_s"),
        ({"served": -1}, "functions.f.served"),
        ({"call_s": 1e300}, "functions.f.call_s"),
        ({"wake_s": {"total": "soon"}}, "functions.f.wake_s.total"),
        ({"memory_bytes": 1.5}, "functions.f.memory_bytes"),
        ({"device": None}, "functions.f.device"),
    ],
)  # fmt: skip
def test_a_number_that_was_never_measured_is_refused(tmp_path, change, key):
    """By its place in the file."""
    data = profile_of(declare()).model_dump(mode="json")
    data["functions"]["f"] |= change
    (tmp_path / "profile.json").write_text(json.dumps(data))
    with pytest.raises(DeclarationError) as refused:
        read_profile(tmp_path / "profile.json")
    assert [one.key for one in refused.value.problems] == [key]


def test_a_function_that_was_not_measured_is_named():
    """With the command that adds it."""
    with pytest.raises(NotFound) as refused:
        profile_of(declare("embed")).function("embd")
    expect_values(refused.value, "'embd'", "embed", "`wakeful profile --function embd`")


def test_a_profile_of_something_else_is_doubted():
    """Another machine, other versions, another version of a function; each is said."""
    spec = declare()
    profile, here = profile_of(spec), this_machine()
    assert profile.doubts({"f": spec}, here) == []
    machine = here.model_copy(update={"processor": "Another", "cores": 64})
    versions = here.model_copy(update={"versions": {**here.versions, "numpy": "1.0"}})
    changed = declare(resources={"num_cpus": 2})
    for specs, other, words in (
        ({"f": spec}, machine, ["another machine", "64 cores"]),
        ({"f": spec}, versions, ["numpy", "here 1.0"]),
        ({"f": changed}, here, ["f changed"]),
    ):
        (doubt,) = profile.doubts(specs, other)
        for word in words:
            assert word in doubt


def test_live_settings_leave_a_profile_as_good_as_it_was():
    """It says what batches take, whatever the promise and the scaling."""
    spec = declare(slo={"latency_p95_ms": 5}, autoscaling={"max_replicas": 9})
    assert profile_of(declare()).doubts({"f": spec}, this_machine()) == []


def on_gpus(*gpus: int, **changes):
    """A profile of a function with a share of a GPU, and the machine that it was made on."""
    spec = declare(resources={"num_gpus": 0.25})
    profile = profile_of(spec, **changes)
    machine = profile.machine.model_copy(update={"gpus": gpus})
    return {"f": spec}, profile.model_copy(update={"machine": machine}), machine


def test_a_function_that_takes_a_gpu_and_was_measured_without_one_is_doubted():
    """Its times are of another device."""
    specs, profile, machine = on_gpus()
    (doubt,) = profile.doubts(specs, machine)
    for word in ("f takes 0.25 of a GPU", "cpu", "Profile"):
        assert word in doubt


def test_another_gpu_is_doubted():
    """With both; for functions that take one."""
    specs, profile, machine = on_gpus(16_000_000_000, gpu_memory_mb=900)
    assert profile.doubts(specs, machine) == []
    other = machine.model_copy(update={"gpus": (80_000_000_000,) * 2})
    (doubt,) = profile.doubts(specs, other)
    for word in ("1 GPUs (16 GB)", "2 GPUs (80 GB, 80 GB)"):
        assert word in doubt
    assert profile.doubts({"g": declare("g")}, other) == []


def test_a_share_that_holds_less_than_a_replica_takes_is_doubted():
    """As `up` refuses it, with the share that would do."""
    specs, profile, machine = on_gpus(16_000_000_000, gpu_memory_mb=9000)
    (doubt,) = profile.doubts(specs, machine)
    assert "num_gpus: 0.59" in doubt


def test_batches_may_be_taken_as_slower():
    """All of them, by one factor."""
    slower = profiled(served=1.5).costs(2.0)
    assert slower.served == 3.0
