"""What a replica prints bears time and name."""

from __future__ import annotations

import io
import logging
import re

from deployments.ray_support.texts import read_record_head
from runtime.system.function_context import HidingFormatter, StampedStream

STAMP = r"OUT \d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} embed \d+ -- "


def test_each_line_begins_with_a_stamp_however_it_is_written():
    """`print` writes the text and the end of the line apart."""
    stream = io.StringIO()
    out = StampedStream(stream, "OUT", "embed")
    print("one", 1, file=out)
    print("two", file=out)
    assert re.fullmatch(f"{STAMP}one 1\n{STAMP}two\n", stream.getvalue())


def test_a_text_of_several_lines_is_one_record():
    """So a traceback stays together."""
    stream = io.StringIO()
    StampedStream(stream, "OUT", "embed").write("one\ntwo\n")
    assert re.fullmatch(f"{STAMP}one\ntwo\n", stream.getvalue())


def test_secret_values_are_not_written():
    """In what a stage prints, and in the log lines of a process whose output bears no stamp."""
    stream = io.StringIO()
    StampedStream(stream, "OUT", "embed", lambda text: text.replace("s3cr3t", "${KEY}")).write(
        "my key is s3cr3t\n"
    )
    assert re.fullmatch(f"{STAMP}my key is \\$\\{{KEY\\}}\n", stream.getvalue())
    record = logging.LogRecord("wakeful", logging.ERROR, __file__, 1, "key %s", ("s3cr3t",), None)
    assert (
        HidingFormatter(lambda text: text.replace("s3cr3t", "${KEY}")).format(record)
        == "key ${KEY}"
    )


def test_a_line_that_reads_as_a_stamp_begins_no_record():
    """A caller's text in a traceback would pass for a record of another function."""
    forged = "ERR 2026-01-31 10:00:00,123 other 1 -- it failed"
    stream = io.StringIO()
    out = StampedStream(stream, "OUT", "embed")
    out.write(f"Traceback\n  ValueError: a\n{forged}\nOUT 2026 is a year\n")
    out.write("one")
    out.write(f"\n{forged}\n")
    lines = stream.getvalue().splitlines()
    assert lines[2] == f" {forged}"
    assert lines[3] == "OUT 2026 is a year"
    assert lines[5] == f" {forged}"
    assert [bool(read_record_head(line)) for line in lines] == [
        True,
        False,
        False,
        False,
        True,
        False,
    ]
