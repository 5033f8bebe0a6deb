"""The functions that the tests of this folder call."""

from __future__ import annotations

from tests.deployments.projects import function

STAGES = "tests.services.together.stages"

FUNCTION = """\
  - name: {name}
    args:
      graph: [{graph}]
      autoscaling: {{min_replicas: {least}, max_replicas: 1}}
"""

SIZE = f'{{stage: size, python: "{STAGES}:size"}}'
DRAWN = f'{{stage: file, python: "{STAGES}:draw"}}'
PAGES = f'{{stage: pages, python: "{STAGES}:pages"}}'
READ = f'stage: read, python: "{STAGES}:read", each: pages, stream: true'
LINE = f'{{stage: line, python: "{STAGES}:line"}}'
PART = "deployment: {min_replicas: 1}"
DRIP = "stages_of_a_test:drip"

FILES = {
    "drawn_hosted": (0, f"{SIZE}, {DRAWN}"),
    "drawn_own": (1, f"{SIZE}, {DRAWN}"),
    "drawn_split": (0, f'{SIZE}, {{stage: file, python: "{STAGES}:draw", {PART}}}'),
    "drawn_by_a_call": (
        0,
        f"{SIZE}, {{stage: file, function: drawn_own, inputs: {{count: size}}}}",
    ),
    "written_hosted": (0, f'{SIZE}, {{stage: file, python: "{STAGES}:write"}}'),
}
"""Answers that are files: replicas at least, and the stages."""

ELEMENTS = {
    "pages_hosted": (0, f"{PAGES}, {{{READ}, threads: 4}}"),
    "pages_own": (1, f"{PAGES}, {{{READ}, ordered: false}}"),
    "pages_split": (0, f"{PAGES}, {{{READ}, {PART}}}"),
}
ROWS = {"lines_hosted": (0, LINE), "lines_own": (1, LINE)}

DRIPS = (
    function("drip_rare", DRIP, least=0),
    function("drip_asleep", DRIP, least=0, more="tier: own"),
    function("drip_own", DRIP),
)
"""One that the host loads, one that has its own replica once it is called, so that the standby has
the call, and one that has it.
"""

BREAKS = function("breaks", f"{STAGES}:Breaks", more="example: {name: x}")

RECORDED = f"""\
  - {{name: recorded, args: {{graph: [{{stage: s, python: "{STAGES}:say"}}], capture: {{omit: [image]}}}}}}
  - name: recorded_own
    args:
      graph: [{{stage: s, python: "{STAGES}:say"}}]
      autoscaling: {{min_replicas: 2, max_replicas: 2}}
      capture: {{rate: 1}}
  - {{name: recorded_caller, args: {{graph: [{{stage: s, function: recorded_own}}], capture: {{rate: 1}}}}}}
  - name: recorded_task
    args:
      task: embedding
      graph: [{{stage: s, python: "{STAGES}:embed"}}]
      capture: {{rate: 1}}
"""

ONE = ", max_replicas: 1"
CALLING = {
    "call_leaf": ("leaf", ""),
    "call_middle": ("middle", "tier: own"),
    "call_top": ("top", ""),
    "call_built": ("Built", "tier: own"),
}
"""Stage, and where it is."""


TASK_STAGES = "tests.task_stages"
TASKS = {
    "vowels": ("embed", 0, "task: embedding"),
    "short": ("shorten", 1, "task: embedding"),
    "rank": ("rank", 0, "task: rerank"),
}
"""Stage, replicas at least, and what it is for clients of others."""

SOON = ", downscale_to_zero_delay_s: 1.0"
RESIDENT = (
    function("resident", least=0, scaling=SOON),
    function("apart", least=0, more="tier: own", scaling=SOON),
)
"""Two that sleep soon: one in the host, one that has always its own deployment."""

SEEN = {"seen_own": 1, "counted_own": 1, "seen_rare": 0, "counted_rare": 0}
"""Replicas at least, of functions whose calls are counted and logged."""


def fetched(source: str) -> str:
    """A function of a model that lies elsewhere, whose digest only the lock has."""
    return f'  - {{name: counted_model, args: {{onnx: "{source}"}}}}\n'


def declared() -> list[str]:
    """All of them, as entries of the file, without ``fetched``."""
    return [
        *DRIPS,
        BREAKS,
        *RESIDENT,
        *(function(name, least=least) for name, least in SEEN.items()),
        *(
            function(name, f"{TASK_STAGES}:{stage}", least=least, more=task)
            for name, (stage, least, task) in TASKS.items()
        ),
        RECORDED,
        *(
            FUNCTION.format(name=name, graph=graph, least=least)
            for name, (least, graph) in {**FILES, **ELEMENTS, **ROWS}.items()
        ),
        *(
            function(name, f"{STAGES}:{stage}", least=int(bool(where)), more=where, scaling=ONE)
            for name, (stage, where) in CALLING.items()
        ),
    ]
