"""Environments that have other releases of some packages than the one that runs the tests, and all
else of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.installation.environments import ROOT, Environment


@dataclass(frozen=True)
class LayeredEnvironment:
    """A virtual environment whose own packages hide those of this one.

    Attributes:
        python: its interpreter; processes that it starts have the same packages.
    """

    python: Path

    @classmethod
    def make(cls, folder: Path, *wanted: str, programs: Sequence[str] = ()) -> LayeredEnvironment:
        """A new one, with these packages and what they need, from the index or a cache; and with
        some programs of this environment, for its own packages.
        """
        Environment.make(folder, Path(sys.executable), *wanted)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        beneath = sysconfig.get_path("purelib")
        file = folder / "lib" / version / "site-packages" / "beneath.pth"
        file.write_text(f"import site; site.addsitedir({beneath!r})\n")
        python = folder / "bin" / "python"
        for program in programs:
            _, _, script = (Path(sys.executable).parent / program).read_text().partition("\n")
            made = python.with_name(program)
            made.write_text(f"#!{python}\n{script}")
            made.chmod(0o755)
        return cls(python)

    def run(self, *arguments: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Runs Python with these arguments in the root of the clone."""
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return subprocess.run(
            [str(self.python), *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
