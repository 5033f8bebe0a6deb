"""Reads Triton's ``config.pbtxt``: protobuf's text format, by protobuf's own parser.

``model_config.proto`` is not in a package that could be required for it (``tritonclient`` has it
among gRPC stubs), so its messages are described here, as far as they are looked at; the numbers are
its own. What is only named when it is left out (warm-up, cache …) has no fields here, and the
parser steps over what is in it.

Source: Triton's *model_config.proto*, package ``inference``.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, MutableSequence, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from runtime.errors import StoreError
from runtime.system.extras import install_line
from runtime.system.messages import clip, quote

MAX_BYTES: Final = 256 << 10
"""Of a file, which takes 5 s then at worst. Those of models have some KiB."""

MAX_LINE: Final = 64 << 10
"""Characters of a line. The parser copies the line for every value that it steps over: 140,000 of
them in one line took 29 s, and take 3 s in lines of this length.
"""

MAX_BACKSLASHES: Final = 100
"""In a row. The parser takes time with the square of them: 25 s for 40,000. A path of Windows, as a
text within a text, has eight.
"""

MAX_REASON: Final = 200
"""Characters of what the parser says, which repeats the word at fault."""

DATA_TYPES: Final = (
    *("INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "FP32", "FP64", "STRING", "BF16"),
)

ENUMS: Final = {
    "DataType": [f"TYPE_{name}" for name in DATA_TYPES],
    "InputFormat": ["FORMAT_NONE", "FORMAT_NHWC", "FORMAT_NCHW"],
    "InstanceKind": ["KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"],
    "TimeoutAction": ["REJECT", "DELAY"],
    "Priority": ["PRIORITY_DEFAULT", "PRIORITY_MAX", "PRIORITY_MIN"],
}
"""Values in the order of their numbers."""

MESSAGES: Final = {
    "Opaque": "",
    "Reshape": "1 shape int64*",
    "Input": "1 name string, 2 data_type DataType, 3 format InputFormat, 4 dims int64*,"
    " 5 reshape Reshape, 6 is_shape_tensor bool, 7 allow_ragged_batch bool, 8 optional bool,"
    " 9 is_non_linear_format_io bool",
    "Output": "1 name string, 2 data_type DataType, 3 dims int64*, 4 label_filename string,"
    " 5 reshape Reshape, 6 is_shape_tensor bool, 7 is_non_linear_format_io bool",
    "Latest": "1 num_versions uint32",
    "Specific": "1 versions int64*",
    "VersionPolicy": "1 latest Latest, 2 all Opaque, 3 specific Specific",
    "InstanceGroup": "1 name string, 2 count int32, 3 gpus int32*, 4 kind InstanceKind,"
    " 5 profile string*, 6 rate_limiter Opaque, 7 passive bool, 8 secondary_devices Opaque*,"
    " 9 host_policy string",
    "QueuePolicy": "1 timeout_action TimeoutAction, 2 default_timeout_microseconds uint64,"
    " 3 allow_timeout_override bool, 4 max_queue_size uint32",
    "DynamicBatching": "1 preferred_batch_size int32*, 2 max_queue_delay_microseconds uint64,"
    " 3 preserve_ordering bool, 4 priority_levels uint64, 5 default_priority_level uint64,"
    " 6 default_queue_policy QueuePolicy, 7 priority_queue_policy Opaque*",
    "TextPair": "1 key string, 2 value string",
    "Step": "1 model_name string, 2 model_version int64, 3 input_map TextPair*,"
    " 4 output_map TextPair*, 5 model_namespace string",
    "Ensembling": "1 step Step*, 2 max_inflight_requests uint32",
    "Graph": "1 level int32",
    "Accelerator": "1 name string, 2 parameters TextPair*",
    "Accelerators": "1 gpu_execution_accelerator Accelerator*,"
    " 2 cpu_execution_accelerator Accelerator*",
    "Optimization": "1 graph Graph, 2 priority Priority, 3 cuda Opaque,"
    " 4 execution_accelerators Accelerators, 5 input_pinned_memory Opaque,"
    " 6 output_pinned_memory Opaque, 7 gather_kernel_buffer_threshold uint32,"
    " 8 eager_batching bool",
    "ParameterValue": "1 string_value string",
    "Parameter": "1 key string, 2 value ParameterValue",
    "TransactionPolicy": "1 decoupled bool",
    "ResponseCache": "1 enable bool",
    "ModelConfig": "1 name string, 2 platform string, 17 backend string, 25 runtime string,"
    " 3 version_policy VersionPolicy, 4 max_batch_size int32, 5 input Input*, 6 output Output*,"
    " 20 batch_input Opaque*, 21 batch_output Opaque*, 12 optimization Optimization,"
    " 11 dynamic_batching DynamicBatching, 13 sequence_batching Opaque,"
    " 15 ensemble_scheduling Ensembling, 7 instance_group InstanceGroup*,"
    " 8 default_model_filename string, 9 cc_model_filenames Opaque*, 10 metric_tags Opaque*,"
    " 14 parameters Parameter*, 16 model_warmup Opaque*, 18 model_operations Opaque,"
    " 19 model_transaction_policy TransactionPolicy, 23 model_repository_agents Opaque,"
    " 24 response_cache ResponseCache, 26 model_metrics Opaque",
}
"""Fields by message: number, name and type; ``*``: repeated. A ``map`` is repeated pairs."""


def read_model_config(path: Path) -> dict[str, Any]:
    """What a ``config.pbtxt`` says, by the names of ``ModelConfig``: whole numbers, texts, names of
    enums, lists and mappings of them. What it does not say is left out.

    Raises:
        StoreError: it cannot be read, or is none; says where.
    """
    try:
        from google.protobuf import text_format
    except ImportError as error:
        raise StoreError(
            f"{path}: reading it needs protobuf, which is not installed here. Run:"
            f" {install_line('models')}"
        ) from error
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise StoreError(f"{path}: more than {MAX_BYTES} bytes; it is no config.pbtxt.")
        lines = data.decode("utf-8").split("\n")
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise StoreError(f"{path}: is not UTF-8: {error}.") from error
    if fault := _find_slow_line(lines):
        raise StoreError(f"{path}:{fault}")
    pending = _LinesRead(lines)
    try:
        with warnings.catch_warnings():
            # of a text's escape that is none, which Triton's own parser refuses
            warnings.simplefilter("error", DeprecationWarning)
            message = text_format.ParseLines(pending, _message_class()(), allow_unknown_field=True)
    except text_format.ParseError as error:
        raise StoreError(f"{path}:{_describe(error, lines, pending.count)}.") from error
    except DeprecationWarning as error:
        raise StoreError(
            f"{path}:{pending.count}: a backslash in its text begins no escape; the character"
            r" itself is \\."
        ) from error
    except RecursionError as error:
        raise StoreError(f"{path}:{pending.count}: its messages are nested too deep.") from error
    return _plain(message)


class _LinesRead:
    """Lines, and how many of them were taken: the parser takes the next one when it has used up
    the last, so what it refuses without a line of its own is on that one.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self.count = 0
        self._lines = lines

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.count += 1
            yield line


def _find_slow_line(lines: Sequence[str]) -> str:
    """The first line that would take the parser too long, and why; empty where there is none."""
    run = "\\" * (MAX_BACKSLASHES + 1)
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE:
            return f"{number}: a line of more than {MAX_LINE} characters. Break it."
        if run in line:
            return f"{number}: more than {MAX_BACKSLASHES} backslashes in a row."
    return ""


def _describe(error: Any, lines: Sequence[str], line: int) -> str:
    """Where a text is wrong, and why, on one line that a terminal shows.

    Args:
        error: of the parser: the place, the line at fault in whole, and the reason, which repeats a
            word of it in whole.
        line: of an error without a place.
    """
    number, column = error.GetLine() or line, error.GetColumn()
    text = lines[number - 1].strip()
    reason = re.sub(r"^\d+:\d+ : ", "", str(error)).removeprefix(f"'{lines[number - 1]}': ")
    place = f"{number}:{column}" if column else f"{number}"
    said = f"{quote(text)}: " if text else ""  # where the next value was looked for
    return f"{place} : {said}{clip(reason.rstrip('.'), MAX_REASON)}"


def _plain(message: Any) -> dict[str, Any]:
    """The fields that are given. ``google.protobuf.json_format`` writes whole numbers as texts."""
    return {
        field.name: (
            [_plain_value(field, one) for one in value]
            # what a field says of that itself has another name in each release
            if isinstance(value, MutableSequence)
            else _plain_value(field, value)
        )
        for field, value in message.ListFields()
    }


def _plain_value(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return _plain(value)
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    return value


@cache
def _message_class() -> Any:
    from google.protobuf import descriptor_pool, message_factory
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

    # proto2: a field that is given as 0 is given
    file = FileDescriptorProto(name="wakeful/model_config.proto", package="wakeful.triton")
    for name, values in ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field, kind in read_fields(fields):
            bare = kind.removesuffix("*")
            added = message.field.add(name=field, number=number)
            added.label = (
                FieldDescriptorProto.LABEL_REPEATED
                if kind.endswith("*")
                else FieldDescriptorProto.LABEL_OPTIONAL
            )
            if bare in MESSAGES:
                added.type = FieldDescriptorProto.TYPE_MESSAGE
            elif bare in ENUMS:
                added.type = FieldDescriptorProto.TYPE_ENUM
            else:
                added.type = FieldDescriptorProto.Type.Value(f"TYPE_{bare.upper()}")
            if bare in MESSAGES or bare in ENUMS:
                added.type_name = f".wakeful.triton.{bare}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("wakeful.triton.ModelConfig"))


def read_fields(text: str) -> list[tuple[int, str, str]]:
    """The fields of a message as it stands in ``MESSAGES``."""
    parts = [part.split() for part in text.split(",") if part.strip()]
    return [(int(number), name, kind) for number, name, kind in parts]
