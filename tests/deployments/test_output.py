"""What a replica prints bears time and name."""

from __future__ import annotations

import io
import re

from deployments.output import Stamped

STAMP = r"OUT \d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} embed \d+ -- "


def test_each_line_begins_with_a_stamp_however_it_is_written():
    """`print` writes the text and the end of the line apart."""
    stream = io.StringIO()
    out = Stamped(stream, "OUT", "embed")
    print("one", 1, file=out)
    print("two", file=out)
    assert re.fullmatch(f"{STAMP}one 1\n{STAMP}two\n", stream.getvalue())


def test_a_text_of_several_lines_is_one_record():
    """So a traceback stays together."""
    stream = io.StringIO()
    Stamped(stream, "OUT", "embed").write("one\ntwo\n")
    assert re.fullmatch(f"{STAMP}one\ntwo\n", stream.getvalue())
