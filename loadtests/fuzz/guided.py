"""``python -m loadtests.fuzz.guided READER --seconds 600``: bytes for a reader that a
coverage-guided fuzzer finds: what leads to lines that no bytes before led to is kept, and changed
further.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name")
@click.option("--seconds", default=600, show_default=True, help="How long.")
@click.option("--corpus", type=Path, help="Folder of bytes that are kept for a later run.")
@click.option(
    "--again", type=Path, help="A file with the bytes of a finding, to be read once more."
)
def main(name: str, seconds: int, corpus: Path | None, again: Path | None) -> None:
    """Fuzz a reader for so long.

    Ends at the first bytes that raise what is no refusal, take 10 s or 2 GB; they are left in a
    file that --again reads.
    """
    atheris: Any = import_module("atheris")  # Linux has it, and none but this command
    with atheris.instrument_imports(include=["runtime", "deployments.loadtest", "ruamel"]):
        from loadtests.fuzz.readers import READERS, reading_folder

    if name not in READERS:
        raise click.BadParameter(f"there are {', '.join(READERS)}.")
    reader = READERS[name]
    with reading_folder() as folder, TemporaryDirectory(prefix="fz-") as temporary:
        if again is not None:
            reader.attempt(again.read_bytes(), folder)
            return
        seeds = corpus or Path(temporary)
        seeds.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(reader.seeds):
            (seeds / f"seed-{number}").write_bytes(seed)
        limits = [
            f"-max_total_time={seconds}",
            "-timeout=10",
            "-rss_limit_mb=2048",
            "-max_len=4096",
        ]
        found = f"-artifact_prefix={Path.cwd()}/fuzz-{name}-"
        arguments = [sys.argv[0], *limits, found, "-print_final_stats=1", str(seeds)]
        atheris.Setup(arguments, lambda data: reader.attempt(data, folder))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
