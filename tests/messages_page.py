"""tests/messages.txt, made from the tables of bad input: the full text that answers each case.

The tests of the tables assert codes and places, so that another wording changes this one file.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from deployments.observability.status_messages import allocation_message, waiting_reason
from runtime.declaration.config_file import read
from runtime.declaration.function_spec import FunctionSpec
from runtime.declaration.yaml_reader import parse
from runtime.errors import Problem, WakefulError
from runtime.graph.graph import GraphIssue, Node
from runtime.graph.interfaces import format_type
from runtime.graph.wiring.wiring import wire_graph
from runtime.onnx.gpu_memory import overcommitted_message, share_overflow_message
from runtime.system.messages import expected_message
from tests import basic, sleepers
from tests.deployments.loadtest.arrivals import test_shapes
from tests.deployments.loadtest.results import test_files
from tests.deployments.observability import test_gpu_shares, test_status_messages
from tests.deployments.scaling.simulation import test_arrivals
from tests.problems import place
from tests.runtime import test_settings
from tests.runtime.artifacts import test_lockfile
from tests.runtime.declaration import test_config_file, test_function_spec, test_yaml_reader
from tests.runtime.declaration.access import test_key_file
from tests.runtime.execution import test_sequence_calls
from tests.runtime.graph import (
    test_called_functions,
    test_request_fields,
    test_resolve,
    test_tasks,
)
from tests.runtime.graph.lint import test_rules
from tests.runtime.graph.python_stages import (
    test_annotation_refusals,
    test_file_signatures,
    test_init_arguments,
    test_signature,
)
from tests.runtime.graph.wiring import test_wiring
from tests.runtime.http.bodies import test_rows
from tests.runtime.library import test_eviction_policy
from tests.runtime.onnx import test_gpu_memory, test_model_file
from tests.runtime.protocol import test_json_codec, test_messages, test_row_codec, test_row_values
from tests.runtime.system import test_messages as test_system_messages
from tests.runtime.types import test_returned_values, test_value_types

ROOT = Path(__file__).parent.parent

HEAD = """\
The answer to every case of the tables of bad input: the case, where it is wrong, the full text.
A request has status and code before the place; the code of a declaration is `declaration`.
`make fix` writes this file.
"""

MOST_SHOWN = 250
"""Characters of a case; a body of a hundred thousand is as well known by its beginning."""

EXPECTED = ("where", "line", "stage", "key", "error", "values")
"""Columns of a table that say what its test expects: the place, the class, decisive values."""

Message = tuple[str, str]
"""Where, and the full text."""


def page() -> str:
    """The page."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        folder = Path(name)
        sections = [
            *_declarations(folder),
            *_values(),
            *_machines(),
            ("a request over HTTP", _requests(folder)),
        ]
    text = "\n".join(
        [HEAD, *(line for title, cases in sections for line in _section(title, cases))]
    )
    return text.replace(name, "FOLDER").replace(f"{ROOT}/", "")


def _section(title: str, cases: Iterable[tuple[str, list[Message]]]) -> Iterator[str]:
    yield f"== {title}\n"
    for case, messages in cases:
        yield case if len(case) <= MOST_SHOWN else f"{case[:MOST_SHOWN]}…"
        for where, text in messages:
            yield from [f"    {where}".rstrip()] if where else []
            yield f"        {text}"
        yield ""


def _declarations(folder: Path) -> Iterator[tuple[str, Iterable[tuple[str, list[Message]]]]]:
    """Every table of declarations: the test that has it, and the problems of its cases."""
    settings, yaml, config = test_settings, test_yaml_reader, test_config_file
    spec, resolve, lint = test_function_spec, test_resolve, test_rules
    yield _table(
        settings.test_a_wrong_variable_is_refused, lambda *of: settings.problems(dict([of]))
    )
    yield _table(
        yaml.test_values_that_json_cannot_express_are_refused,
        lambda text, _: parse(text, "f.yaml").problems,
    )
    yield _table(
        yaml.test_text_that_is_no_yaml_ends_the_reading, lambda text, _: yaml.refused(text)
    )
    yield _table(
        yaml.test_bytes_that_are_no_text_are_refused,
        lambda content, _: yaml.refused_file(folder, content),
    )
    yield _table(
        yaml.test_a_word_with_two_meanings_is_refused,
        lambda word: parse(f"a:\n- {word}", "f.yaml").problems,
    )
    yield _table(
        yaml.test_a_word_that_yaml_1_1_does_not_read_in_flow_style_is_refused,
        lambda text, _: parse(text, "f.yaml").problems,
    )
    yield _table(
        config.test_a_prefix_that_cannot_be_called_is_refused,
        lambda prefix: config.problems(folder, config.with_prefix(prefix)),
    )
    yield _table(
        config.test_what_an_application_lacks_or_shares_is_refused,
        lambda given, where: (
            config.problems(folder, config.with_applications(given)) if where else ()
        ),
    )
    yield _table(
        config.test_a_builder_of_ours_is_meant,
        lambda path, meant: config.problems(folder, config.with_builder(path)) if meant else (),
    )
    yield _table(
        config.test_rays_own_levels_are_strict_too, lambda text, _: config.problems(folder, text)
    )
    yield _table(
        config.test_keys_are_checked,
        lambda text, _: config.problems(folder, config.keys_file(text)),
    )
    yield _table(
        test_key_file.test_a_broken_file_is_refused_whole,
        lambda text, _: test_key_file.refused(folder, text),
    )
    yield (
        "a file of many mistakes",
        [(repr(config.MISTAKES), _messages(config.problems(folder, config.MISTAKES)))],
    )
    yield _table(
        spec.test_an_impossible_signature_is_refused,
        lambda stage, _: spec.problems_of(graph=[stage]),
    )
    yield _table(
        spec.test_a_model_lies_within_its_folder,
        lambda path: [
            problem
            for onnx in (path, f"pypi:a==1/{path}", f"s3://bucket/{path}")
            for problem in spec.problems_of(onnx=onnx, sha256=spec.SHA)
        ],
    )
    yield _table(
        spec.test_impossible_args_are_refused,
        lambda args, _: spec.problems_of(**{**spec.MODEL_ARGS, **args}),
    )
    yield (
        "args of many mistakes",
        [(repr(spec.MISTAKES), _messages(spec.problems_of(**spec.MISTAKES)))],
    )
    yield from _stages(folder)
    yield from _graphs()
    yield _table(
        resolve.test_a_wrong_function_is_refused, lambda args, _: resolve.problems(folder, args)
    )
    yield _table(
        test_called_functions.test_what_a_stage_cannot_call_is_refused,
        lambda source, _: test_called_functions.problems(folder, source),
    )
    yield _table(
        test_tasks.test_a_task_is_a_promise, lambda args, _: resolve.problems(folder, args)
    )
    yield _table(
        lint.test_values_that_no_stage_takes_are_warned_of,
        lambda graph, _: lint.warnings(folder, graph),
    )
    yield (
        "a model of which nothing is used is warned of",
        [(repr(lint.UNUSED_MODEL), _messages(lint.warnings(folder, lint.UNUSED_MODEL)))],
    )


def _stages(folder: Path) -> Iterator[tuple[str, Iterable[tuple[str, list[Message]]]]]:
    """Every table of stages and models that cannot be used, one by one."""
    folder = folder / "stages"
    folder.mkdir()
    for test in (
        test_signature.test_a_stage_that_yields_otherwise_than_annotated_is_refused,
        test_signature.test_callables_that_are_no_stage_are_refused,
        test_annotation_refusals.test_an_annotation_that_says_nothing_is_refused,
        test_file_signatures.test_what_is_no_file_is_refused,
    ):
        yield _table(test, lambda function, _: [test_signature.refused(function)], _named)
    yield _table(
        test_init_arguments.test_a_missing_file_is_named,
        lambda annotation, value, *_: [test_init_arguments.refused(folder, annotation, value)],
        _typed,
    )
    yield _table(
        test_sequence_calls.test_a_graph_that_keeps_nothing_sensible_is_refused,
        lambda graph, sequences, *_: [test_sequence_calls.refused(folder, graph, sequences)],
    )
    yield _table(
        test_value_types.test_values_between_python_stages,
        lambda given, wanted, _: filter(None, [test_value_types.misfit(given, wanted)]),
        lambda *annotations: ", ".join(map(format_type, annotations)),
    )
    yield _table(
        test_model_file.test_what_is_no_model,
        lambda data, _: [test_model_file.refused(folder, data)],
    )
    yield _table(
        test_lockfile.test_a_wrong_model_is_refused,
        lambda model, _: [test_lockfile.refused(folder, model)],
    )
    yield _table(
        test_arrivals.test_each_problem_is_reported_with_its_line,
        lambda text, *_: test_arrivals.refused(_written(folder / "trace.csv", text)),
    )
    yield _table(
        test_files.test_a_file_that_is_no_run_is_refused,
        lambda text, *_: test_files.refused(folder, text),
    )
    yield _table(
        test_shapes.test_what_no_load_can_be_made_of_is_refused,
        lambda text, rates, seconds, *_: test_shapes.refused(text, rates, seconds),
    )


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _machines() -> Iterator[tuple[str, Iterable[tuple[str, list[Message]]]]]:
    """Every table of what a machine or a cluster has no room for, and of what is waited for."""
    yield _table(
        test_eviction_policy.test_what_cannot_fit_has_the_arithmetic,
        lambda wanted, held, _: [test_eviction_policy.refused(wanted, held)],
    )
    yield _table(
        test_gpu_memory.test_memory_has_to_fit_the_share,
        lambda num_gpus, memory_mb, _: filter(
            None, [share_overflow_message(num_gpus, memory_mb, 16000)]
        ),
    )
    yield _table(
        test_gpu_memory.test_too_little_memory_is_refused_with_the_numbers,
        lambda *columns: [test_gpu_memory.refused_memory(*columns[:-1])],
    )
    yield _table(
        test_gpu_memory.test_always_on_replicas_that_no_devices_hold_are_refused,
        lambda replicas, _: filter(None, [overcommitted_message(replicas, 2, 16000)]),
    )
    yield _table(
        test_status_messages.test_a_message_comes_down_to_its_reason,
        lambda message, _: [waiting_reason(message)],
    )
    yield _table(
        test_gpu_shares.test_a_waiting_replica_names_the_functions_that_have_the_gpus,
        lambda *columns: filter(None, [allocation_message(*columns[:-1])]),
    )


def _values() -> Iterator[tuple[str, Iterable[tuple[str, list[Message]]]]]:
    """Every table of values that do not fit: in a request, of a stage, between functions."""
    yield _table(
        test_system_messages.test_a_wrong_kind_is_a_sentence,
        lambda value, wanted, _: [expected_message(value, wanted)],
    )
    yield _table(
        test_rows.test_a_refusal_says_what_came_and_what_is_taken,
        lambda accepts, _: [test_rows.refused(accepts)],
    )
    yield _table(
        test_json_codec.test_the_element_at_fault_is_named,
        lambda data, datatype, *_: [test_json_codec.refused_element(data, datatype)],
    )
    yield _table(
        test_messages.test_inputs_that_do_not_fit_are_refused,
        lambda inputs, *_: [test_messages.refused(inputs)],
        lambda inputs: ", ".join(
            f"{name} {array.dtype} {list(array.shape)}" for name, array in inputs.items()
        ),
    )
    yield _table(
        test_request_fields.test_a_wrong_value_is_refused_by_field,
        lambda kind, value, *_: [test_request_fields.refused_value(kind, value)],
        _typed,
    )
    yield _table(
        test_request_fields.test_wrong_names_are_refused,
        lambda data, *_: [test_request_fields.refused(data)],
    )
    yield _table(
        test_returned_values.test_what_is_not_as_declared_is_reported,
        lambda annotation, value, _: [test_returned_values.unlike(annotation, value)],
        _typed,
    )
    yield _table(
        test_row_codec.test_what_would_arrive_as_something_else_is_refused,
        lambda value, _: [test_row_codec.refused(value)],
    )
    yield _table(
        test_row_values.test_what_has_no_form_is_named_by_its_place,
        lambda value, _: [test_row_values.refused(value)],
    )


def _typed(annotation: Any, value: Any) -> str:
    """An annotation as it is written, and a value."""
    return f"{format_type(annotation)}, {value!r}"


def _named(function: Any) -> str:
    """A callable by its name."""
    return getattr(function, "__name__", type(function).__name__)


def _graphs() -> Iterator[tuple[str, Iterable[tuple[str, list[Message]]]]]:
    """Every table of stages that do not fit together."""
    wiring = test_wiring
    made: list[tuple[Any, Callable[[Any], list[Node]]]] = [
        (wiring.test_wrong_edges_are_named, list),
        (wiring.test_an_edge_of_a_fan_out_that_does_not_fit_is_refused, list),
        (
            wiring.test_a_replaced_value_that_does_not_fit_is_refused,
            lambda stages: [wiring.LOOK, *stages],
        ),
        (
            wiring.test_a_default_that_only_another_function_knows_is_used_nowhere_else,
            lambda node: [wiring.CALLED, node],
        ),
        (wiring.test_a_branch_that_leaves_a_stage_without_its_value, wiring.behind_a_branch),
    ]
    for test, stages_of in made:
        yield _table(
            test,
            lambda row, *_, stages_of=stages_of: wire_graph(stages_of(row)).issues,
            lambda row, stages_of=stages_of: "; ".join(map(_stage_text, stages_of(row))),
        )


def _stage_text(node: Node) -> str:
    """``name(parameter: type) -> value: type``, with what else is declared of the stage."""
    takes = ", ".join(f"{port.name}: {port.type}" for port in node.takes)
    gives = ", ".join(f"{name}: {type_}" for name, type_ in node.gives.items())
    declared = [("inputs", node.inputs), ("pad", node.pad), ("outputs", node.outputs)]
    more = [f"{key} {dict(value)}" for key, value in declared if value]
    more += [f"each {node.each}"] if node.each else []
    more += [f"when {node.when}"] if node.when else []
    more += [] if node.has_rows else ["without rows"]
    return " ".join([f"{node.name}({takes}) -> {gives}", *more])


def _table(
    test: Any, refuse: Callable[..., Iterable[Any]], describe: Callable[..., str] | None = None
) -> tuple[str, list[tuple[str, list[Message]]]]:
    """The cases of a parametrised test, named by its first columns, that have problems."""
    (mark,) = (mark for mark in test.pytestmark if mark.name == "parametrize")
    names, rows = mark.args
    if isinstance(names, str):
        names, rows = (names,), [(row,) for row in rows]
    inputs = sum(name not in EXPECTED for name in names)
    describe = describe or (lambda *columns: ", ".join(map(repr, columns)))
    cases = [(describe(*row[:inputs]), _messages(refuse(*row))) for row in rows]
    title = test.__name__.removeprefix("test_").replace("_", " ")
    return title, [(case, messages) for case, messages in cases if messages]


def _messages(
    problems: Iterable[Problem | GraphIssue | Exception | str | Message],
) -> list[Message]:
    messages = []
    for one in problems:
        match one:
            case Problem():
                messages.append((place(one), one.message))
            case GraphIssue():
                messages.append((f"stage {one.stage}: {one.key}", one.message))
            case WakefulError():
                messages.append((f"{one.code} {one.where}", one.message))
            case Exception() | str():
                messages.append(("", str(one)))
            case _:
                messages.append(one)
    return messages


def _requests(folder: Path) -> list[tuple[str, list[Message]]]:
    """The errors of the requests that every way of serving refuses."""
    functions = map(FunctionSpec.of, read(basic.write(folder)).functions)

    async def ask(served: sleepers.Served) -> list[tuple[str, list[Message]]]:
        cases = []
        for case in basic.CASES:
            response = await served.client.request(**case.request())
            case.compare(response)
            if response.is_error:
                body = response.json()
                where = f"{response.status_code} {body['code']} {body['where']}"
                cases.append((case.name, [(where, body["error"])]))
        return cases

    cases: list[tuple[str, list[Message]]] = sleepers.run(sleepers.serving(folder, *functions), ask)
    return cases
