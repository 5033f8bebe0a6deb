"""What a replica prints bears time and name."""

from __future__ import annotations

import io
import logging
import re

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
