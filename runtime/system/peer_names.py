"""The names that BentoML, LitServe, Ray Serve, Triton, TorchServe, KServe, FastAPI and containers
have for what is named otherwise here: commands, keys of the file, paths over HTTP.

Plain tables, looked at where a name is unknown, before one that is spelled alike is offered:
``max_latency_ms`` is no slip of the pen for ``max_batch_size``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

Table = tuple[tuple[str, str], ...]
"""Names, with a space between them, and what is said of each."""

_COMMANDS: Final[Table] = (
    (
        "serve start launch dev server",
        "`wakeful run` serves a file in one process, `wakeful up` on Ray.",
    ),
    (
        "deploy apply update rollout redeploy reload",
        "`wakeful up` serves a file on Ray, and run again it applies what has changed; `wakeful "
        "run --reload` serves each edit.",
    ),
    (
        "stop shutdown kill delete undeploy destroy teardown rm",
        "`wakeful down` takes down what `wakeful up` serves; Ctrl-C ends a `wakeful run`, and "
        "`wakeful sleep NAME` frees a function's memory.",
    ),
    (
        "build containerize package archive push publish",
        "nothing is built: the folder is served as it is. docs/install.md has a Dockerfile.",
    ),
    (
        "list ls ps get info describe functions",
        "`wakeful status` shows every function, `wakeful explain` what a file comes to.",
    ),
    (
        "invoke predict request curl query infer",
        "`wakeful call NAME JSON` calls a function.",
    ),
    (
        "init create template scaffold",
        "`wakeful new NAME` writes one.",
    ),
    (
        "validate lint verify test",
        "`wakeful check` looks at a file.",
    ),
    (
        "load register",
        "`wakeful wake NAME` loads a function.",
    ),
    (
        "unload unregister",
        "`wakeful sleep NAME` frees a function's memory.",
    ),
    (
        "pull download fetch",
        "`wakeful models pull` fetches models.",
    ),
    (
        "tail log",
        "`wakeful logs NAME` prints what a function wrote.",
    ),
    (
        "benchmark perf load load-test locust stress",
        "`wakeful loadtest` sends a load and judges what comes of it.",
    ),
    (
        "config settings",
        "`wakeful explain` shows every setting's origin.",
    ),
    (
        "version",
        "`wakeful --version` prints it.",
    ),
    (
        "help",
        "`wakeful --help` lists the commands, `wakeful COMMAND --help` explains one.",
    ),
)

COMMANDS: Final[Mapping[str, str]] = {
    name: advice for names, advice in _COMMANDS for name in names.split()
}
"""By command: the sentence that leads to ours."""

_WAIT: Final = "`batching: {batch_wait_timeout_s: SECONDS}`"
_SIZE: Final = "`batching: {max_batch_size: ROWS}`"
_REPLICAS: Final = "`autoscaling: {min_replicas: N, max_replicas: N}`"
_THREADS: Final = (
    "`resources: {num_cpus: N}` for threads that compute, `threads: N` on a stage that waits"
)
_TIMEOUT: Final = "`limits: {request_timeout_s: SECONDS}`"
_GPUS: Final = "`resources: {num_gpus: N}`, where 0.25 puts four replicas on one device"
_QUEUE: Final = "`limits: {max_queued_requests: N}`"
_ONGOING: Final = "`limits: {max_ongoing_requests: N}`"
_PYTHON: Final = '`graph: [{stage: NAME, python: "module:function"}]`'
_MODEL: Final = "`onnx: PATH`, alone or as a stage of the graph"
_ANNOTATIONS: Final = "nothing to write: it is read from the stages' annotations and the model"
_TLS: Final = "`http: {tls: {cert: FILE, key: FILE}}`, at the top of the file"

_KEYS: Final[Table] = (
    (
        "max_latency_ms batch_timeout_ms max_batch_delay maxBatchDelay "
        "max_queue_delay_microseconds",
        f"{_WAIT}, in seconds",
    ),
    (
        "batch_timeout max_wait_time max_batch_time batch_wait_ms max_batch_delay_s "
        "batch_wait_timeout max_latency",
        _WAIT,
    ),
    (
        "batch_size maxBatchSize batchSize preferred_batch_size max_batch",
        _SIZE,
    ),
    (
        "dynamic_batching batchable batch adaptive_batching",
        f"{_SIZE}; rows gather by themselves where the model has a rows axis, or a stage takes "
        "`Rows[T]`",
    ),
    (
        "replicas num_replicas instances minWorkers maxWorkers min_workers max_workers scaling "
        "minReplicas maxReplicas",
        _REPLICAS,
    ),
    (
        "workers workers_per_device instance_group num_workers threads concurrency",
        f"`wakeful run --workers N` for processes of one machine, {_REPLICAS} on Ray; {_THREADS}",
    ),
    (
        "devices accelerator gpus gpu num_gpu",
        _GPUS,
    ),
    (
        "cpus cpu num_cpu num_threads",
        _THREADS,
    ),
    (
        "memory",
        "`resources: {memory_mb: MB}`",
    ),
    (
        "ray_actor_options",
        "`resources: {num_cpus: N, num_gpus: N, memory_mb: MB}`",
    ),
    (
        "autoscaling_config",
        "`autoscaling:`, with the same names in it",
    ),
    (
        "scaledown_window idle_timeout keep_alive container_idle_timeout scale_to_zero "
        "scale_down_delay",
        "`autoscaling: {downscale_to_zero_delay_s: SECONDS}`",
    ),
    (
        "keep_warm min_containers",
        "`autoscaling: {min_replicas: 1}`, or `awake:` for hours of the day",
    ),
    (
        "timeout timeout_s request_timeout responseTimeout timeout_ms response_timeout deadline",
        _TIMEOUT,
    ),
    (
        "traffic max_concurrency max_concurrent_requests target_inputs max_inputs",
        f"{_ONGOING} and {_TIMEOUT}",
    ),
    (
        "max_queue_size job_queue_size jobQueueSize queue_size",
        _QUEUE,
    ),
    (
        "max_payload_size max_request_size max_body_size",
        "`limits: {max_body_bytes: BYTES}`",
    ),
    (
        "route path api_path endpoint url prefix",
        "`route_prefix`, beside `name` and `args`",
    ),
    (
        "bind address listen",
        "`http_options: {host: ADDRESS, port: N}`",
    ),
    (
        "cors_origins allow_origins access_control_allow_origins",
        "`http: {cors: …}`, at the top of the file",
    ),
    (
        "ssl tls certificate",
        _TLS,
    ),
    (
        "stages steps pipeline ensemble_scheduling nodes workflow",
        "`graph`, a list of stages",
    ),
    (
        "services functions models apis",
        "`applications`, a list at the top of the file",
    ),
    (
        "handler entrypoint class callable service lit_api",
        _PYTHON,
    ),
    (
        "model_path model_file modelFile onnx_path default_model_filename model_uri storageUri",
        _MODEL,
    ),
    (
        "input output input_schema output_schema signature dtype schema",
        _ANNOTATIONS,
    ),
    (
        "init_args init_kwargs kwargs user_config",
        "`with: {NAME: VALUE}` on a Python stage, what its `__init__` takes",
    ),
    (
        "env envs environment env_vars",
        '`with: {NAME: "${VARIABLE}"}` on a stage, from the environment or `--secrets FILE`',
    ),
    (
        "requirements packages pip python_packages conda",
        "nothing: stages import what is installed beside Wakeful",
    ),
    (
        "backend platform runtime framework",
        "nothing: models run on ONNX Runtime, all else in Python stages",
    ),
    (
        "sequence_batching",
        "`sequences: {}`, and a `State[T]` in a stage",
    ),
    (
        "warmup model_warmup sample_input",
        "`example: {…}`, one request as a caller sends it, run before the function is ready",
    ),
    (
        "stream decoupled model_transaction_policy",
        "nothing: a last stage that yields streams its answer",
    ),
    (
        "schedule cron",
        '`autoscaling: {awake: "Mon-Fri 08:00-18:00 ZONE"}`',
    ),
    (
        "version_policy version versions",
        "nothing: one version serves, and the next takes over when it is warm",
    ),
)

KEYS: Final[Mapping[str, str]] = {name: advice for names, advice in _KEYS for name in names.split()}
"""By key: what to write here, under a function's `args` unless it says where."""

_CALL: Final = "A function is called by POST at {call}."
_HEALTH: Final = "Health is at /v2/health/live and /v2/health/ready."
_INDEX: Final = "/v2/repository/index lists the functions, / what each of them does."
_DOCS: Final = "The description is at /openapi.json, a page to try it at /docs."

PATHS: Final[Sequence[tuple[re.Pattern[str], str]]] = tuple(
    (re.compile(rf"/(?:{pattern})/?"), advice)
    for pattern, advice in (
        (
            r"healthz?|livez|readyz|ping|live|ready|alive|status|health/.*|-/(?:healthy|routes|ready)"
            r"|v2/health|api/health.*|v2/live|v2/ready|actuator/health",
            _HEALTH,
        ),
        (r"v2/models|models|v1|v2/repository|api|catalog", _INDEX),
        (
            r"predict|invocations|generate|infer|score|run|call|classify|encode|embed|api/predict"
            r"|predictions(?:/.*)?|v1/models/[^/]+:\w+|models/[^/]+(?:/.*)?|v1/predict|function/.*",
            _CALL,
        ),
        (r"redoc|swagger.*|openapi|openapi\.ya?ml|docs\.json|schema|api-docs", _DOCS),
        (r"metrics/.*|prometheus|v2/metrics", "Metrics of all functions are at /metrics."),
        (
            r"v1/(?:chat/)?completions|chat/completions|v1/responses|api/(?:chat|generate)",
            "Text generation has no route here; /v1/embeddings, /v1/rerank and /v1/moderations "
            "have.",
        ),
    )
)
"""Paths of other servers, and the sentence that leads to ours; ``{call}`` is the prefix of the
function that is probably meant."""

ANY_PREFIX: Final = "/v2/models/NAME"
"""Where functions are called, unless the file says otherwise."""

LONGEST_PATH: Final = 256
"""Characters of an unknown path that are looked at."""


def command_advice(name: str) -> str:
    """The sentence for a command of another tool, or nothing."""
    return COMMANDS.get(name.casefold(), "")


def key_advice(key: str) -> str:
    """What to write instead of a key of another tool, or nothing."""
    return KEYS.get(key, "")


def key_here(key: str) -> str:
    """The first key of that advice, or nothing: ``batching`` for ``max_latency_ms``."""
    found = re.match(r"`(\w+)", key_advice(key))
    return found[1] if found else ""


def path_advice(path: str, meant_prefix: Callable[[str], str] = lambda path: ANY_PREFIX) -> str:
    """The sentence for a path of another server, or nothing.

    Args:
        meant_prefix: returns the prefix of the function that a path probably means.
    """
    path = path[:LONGEST_PATH]
    advice = next((said for pattern, said in PATHS if pattern.fullmatch(path)), "")
    return advice.format(call=meant_prefix(path)) if advice else ""
