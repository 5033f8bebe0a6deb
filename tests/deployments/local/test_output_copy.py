"""What is printed is copied to a file of bounded size."""

from __future__ import annotations

import io
import os
import shutil
from contextlib import closing

import click
import pytest

from deployments.local.output_copy import CappedFile, CopiedStream


@pytest.fixture
def log(tmp_path):
    """Its path."""
    return tmp_path / "1.log"


def test_a_line_goes_to_both(log):
    """As it is to the terminal; with time and name, and without secrets, to the file."""
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with closing(CappedFile(log, 1000)) as file:
        stream = CopiedStream(terminal, file, "OUT", lambda text: text.replace("s3", "***"))
        click.echo("key s3 ö", file=stream)
    terminal.seek(0)
    assert terminal.read() == "key s3 ö\n"
    text = log.read_text(encoding="utf-8")
    assert text.startswith("OUT 2")
    assert text.endswith(" -- key *** ö\n")
    assert " run " in text
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_full_file_is_kept_once(log):
    """So that two of them are the most there is; each text is whole in one."""
    with closing(CappedFile(log, 100)) as file:
        for number in range(50):
            file.write(f"line {number:04}\n")
    before = log.with_suffix(".log.1").read_text().splitlines()
    after = log.read_text().splitlines()
    assert before[-1:] + after[:1] == [
        f"line {50 - len(after) - 1:04}",
        f"line {50 - len(after):04}",
    ]
    assert len(before) * 10 <= 110


def test_another_process_that_moved_it_is_followed(log):
    """As a version and the next, which write to the same file."""
    with closing(CappedFile(log, 100)) as old, closing(CappedFile(log, 100)) as new:
        new.write("x" * 101)
        new.write("new\n")
        old.write("old\n")  # to the file that was moved, which is full
        old.write("again\n")
        assert log.read_text() == "new\nagain\n"


@pytest.mark.parametrize("ends_by", ["full", "closed"])
def test_a_closed_file_is_never_written_to(tmp_path, ends_by):
    """Its number belongs to another file by then, a client's connection perhaps: where no new file
    can be opened the old one is kept, and what a thread prints after the end is dropped.
    """
    folder = tmp_path / "runs"
    folder.mkdir()
    with closing(CappedFile(folder / "1.log", 10)) as log:
        if ends_by == "full":
            shutil.rmtree(folder)
            log.write("x" * 11)
        else:
            log.close()
        with (tmp_path / "other").open("w") as other:
            log.write("printed")
            assert os.fstat(other.fileno()).st_size == 0
