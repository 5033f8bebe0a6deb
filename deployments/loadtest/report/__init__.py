"""A run as one HTML file: the verdict in words, latency over time with what the server did beneath,
the distribution, where the time went, errors, the generator, and the run that it is compared with.

The file asks nothing of the network, has light and dark colours, can be read on a phone, and its
numbers are in tables that need no script. Called by ``wakeful loadtest``; may import ``results``.
"""

from __future__ import annotations

from pathlib import Path

from deployments.loadtest.results.records import Run
from deployments.loadtest.results.verdict import Verdict
from runtime.system.files import make_temporary_folder, put_in_place


def write_report(run: Run, verdict: Verdict, path: Path, against: Run | None = None) -> None:
    """Writes the report; the file is the old or the new one, whole.

    Args:
        verdict: of the run.
        path: of the file; its folder is made where it is missing.
        against: an earlier run, which this one is compared with.

    Raises:
        ModuleNotFoundError: matplotlib or jinja2 is missing; both are in the extra ``[load]``.
        OSError: the file cannot be written.
    """
    from deployments.loadtest.report.page import render  # matplotlib takes half a second

    text = render(run, verdict, against)
    with make_temporary_folder(path.parent) as partial:
        (partial / path.name).write_text(text, encoding="utf-8")
        put_in_place(partial / path.name, path)
