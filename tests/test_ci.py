"""What `.ci/run` sets up, and what it says where it cannot: with an apt-get and a make of the test's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.problems import expect_values

TOOLS = ("bash", "dirname", "timeout", "sh", "tail", "paste", "env", "touch", "cat", "chmod", "ls")


def run(folder: Path, installs: str, *there: str) -> tuple[int, str, list[str]]:
    """Its status, what it says and what it did, on a machine that has only these programs.

    Args:
        installs: what `apt-get install` does, in the words of a shell.
    """
    programs = folder / "bin"
    programs.mkdir()
    for name in TOOLS:
        (programs / name).symlink_to(str(shutil.which(name)))
    done = folder / "done"
    done.touch()
    own = {
        "apt-get": f'echo "apt-get $1" >> {done}; [ "$1" = update ] && exit 0\n{installs}',
        "make": f'echo "make $*" >> {done}',
        **dict.fromkeys(there, ":"),
    }
    for name, text in own.items():
        (programs / name).write_text(f"#!{programs / 'bash'}\n{text}\n")
        (programs / name).chmod(0o755)
    script = folder / "repository" / ".ci" / "run"
    script.parent.mkdir(parents=True)
    shutil.copy(Path(__file__).parent.parent / ".ci" / "run", script)
    outcome = subprocess.run(
        [programs / "bash", script],
        env={"PATH": str(programs), "BIN": str(programs)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return outcome.returncode, outcome.stderr, done.read_text().splitlines()


ALL = ("prometheus", "promtool", "systemd-analyze", "chromium")
COMES = f"for name in {' '.join(ALL)}; do cat $BIN/make > $BIN/$name; chmod +x $BIN/$name; done"
SECOND = f"[ -e $BIN/tried ] || {{ touch $BIN/tried; echo no network >&2; exit 100; }}\n{COMES}"
MADE = "make test RERUNS=--reruns 1 --rerun-show-tracebacks -raR"
ONCE = ["apt-get update", "apt-get install"]


@pytest.mark.parametrize(
    ("installs", "there", "did"),
    [
        (COMES, ALL, [MADE]),
        (COMES, (), [*ONCE, MADE]),
        (COMES, ALL[:-1], [*ONCE, MADE]),
        (SECOND, (), [*ONCE, *ONCE, MADE]),
    ],
)
def test_what_tests_need_is_installed(tmp_path, installs, there, did):
    """Where it is missing; a failure is tried once more."""
    assert run(tmp_path, installs, *there) == (0, "", did)


@pytest.mark.parametrize("installs", ["echo no network; exit 100", ":"])
def test_nothing_is_tested_without_it(tmp_path, installs):
    """The run fails with what apt-get said, and what is to be done."""
    status, said, did = run(tmp_path, installs, *ALL[:-1])
    assert (status, MADE in did) == (1, False)
    expect_values(said, ".ci/run", "chromium", "apt-get install")
    assert ("no network" in said) == ("no network" in installs)
    assert "not there: chromium." in said
