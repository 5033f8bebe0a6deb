"""The keys of ``serve_config.yaml`` around its functions: those that are Ray Serve's (2.60,
``ServeDeploySchema``), of which Ray itself ignores the unknown ones, and ``http``, which is ours
(``http_section``).

Names are checked wherever Ray has a fixed set of them; values only where we read them ourselves.
``Any`` means: Ray's to judge.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from runtime.declaration.constrained_types import FilePath
from runtime.declaration.declared_spec import FunctionArgs
from runtime.declaration.http_section import HttpSection, TlsSpec
from runtime.declaration.validation import StrictModel, validation_error


def _refuse_password(value: str | None) -> str | None:
    if value is not None:
        raise validation_error(
            "a key with a password is not read, and the password would stand beside it. Write the"
            " key into a file of its own, `(umask 077; openssl pkey -in KEY -out FILE)`, name that,"
            " and delete this."
        )
    return value


class HttpOptions(StrictModel):
    """Where HTTP is served."""

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description=(
            "Address listened on. 127.0.0.1: this machine only; Ray's own default is everywhere."
        ),
    )
    port: int = Field(8000, ge=1, le=65535, description="Port listened on. 8000, as in Ray.")
    root_path: str = Field(
        "", description="Path that a proxy before us takes away. Empty: there is none."
    )
    request_timeout_s: float | None = Field(
        None,
        gt=0,
        description="Ray's own deadline of a request. Unset: each function's `limits` hold.",
    )
    keep_alive_timeout_s: int | None = Field(
        None, ge=1, description="Seconds that an idle connection is kept. Unset: Ray's default."
    )
    ssl_keyfile: FilePath | None = Field(None, description="`http.tls.key` in Ray's spelling.")
    ssl_certfile: FilePath | None = Field(None, description="`http.tls.cert` in Ray's spelling.")
    ssl_keyfile_password: Annotated[str | None, AfterValidator(_refuse_password)] = Field(
        None, description="Unset. Ray's, and refused: the key is in a file without a password."
    )
    ssl_ca_certs: FilePath | None = Field(
        None, description="`http.tls.client_ca` in Ray's spelling."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.ssl_keyfile is None) != (self.ssl_certfile is None) or (
            self.ssl_ca_certs is not None and self.ssl_certfile is None
        ):
            raise validation_error(
                "`ssl_certfile` and `ssl_keyfile` are given together, `ssl_ca_certs` with both.",
                also=[("ssl_certfile",), ("ssl_keyfile",), ("ssl_ca_certs",)],
            )
        return self

    @property
    def tls(self) -> TlsSpec | None:
        """What Ray's keys say of it, as `http.tls` has it."""
        if self.ssl_certfile is None or self.ssl_keyfile is None:
            return None
        return TlsSpec(cert=self.ssl_certfile, key=self.ssl_keyfile, client_ca=self.ssl_ca_certs)


class GrpcOptions(StrictModel):
    """Ray's gRPC proxy."""

    port: Any = None
    grpc_servicer_functions: Any = None
    request_timeout_s: Any = None
    enable_reflection: Any = None


class ControllerOptions(StrictModel):
    """Ray Serve's controller."""

    runtime_env: Any = None


class LoggingConfig(StrictModel):
    """Ray Serve's logs."""

    encoding: Any = None
    log_level: Any = None
    logs_dir: Any = None
    enable_access_log: Any = None
    additional_log_standard_attrs: Any = None


class TracingConfig(StrictModel):
    """Ray Serve's traces."""

    enabled: Any = None
    exporter_import_path: Any = None
    sampling_ratio: Any = None


class AutoscalingPolicy(StrictModel):
    """A user's own scaling policy."""

    policy_function: Any = None
    policy_kwargs: Any = None


class AutoscalingConfig(StrictModel):
    """How Ray scales a deployment."""

    min_replicas: Any = None
    initial_replicas: Any = None
    max_replicas: Any = None
    target_ongoing_requests: Any = None
    metrics_interval_s: Any = None
    look_back_period_s: Any = None
    smoothing_factor: Any = None
    upscale_smoothing_factor: Any = None
    downscale_smoothing_factor: Any = None
    upscaling_factor: Any = None
    downscaling_factor: Any = None
    downscale_delay_s: Any = None
    downscale_to_zero_delay_s: Any = None
    upscale_delay_s: Any = None
    aggregation_function: Any = None
    policy: AutoscalingPolicy | None = None


class RayActorOptions(StrictModel):
    """What an actor of a deployment takes."""

    runtime_env: Any = None
    num_cpus: Any = None
    num_gpus: Any = None
    memory: Any = None
    resources: Any = None
    accelerator_type: Any = None
    label_selector: Any = None
    fallback_strategy: Any = None


class BackpressureConfig(StrictModel):
    """What a client is answered when the queue is full."""

    status_code: Any = None
    retry_after_s: Any = None


class RequestRouterConfig(StrictModel):
    """How a request finds its replica."""

    request_router_class: Any = None
    request_router_kwargs: Any = None
    request_routing_stats_period_s: Any = None
    request_routing_stats_timeout_s: Any = None
    initial_backoff_s: Any = None
    backoff_multiplier: Any = None
    max_backoff_s: Any = None


class GangSchedulingConfig(StrictModel):
    """Replicas that start together."""

    gang_size: Any = None
    gang_placement_strategy: Any = None
    runtime_failure_policy: Any = None


class DeploymentActor(StrictModel):
    """An actor that a deployment's replicas share."""

    name: Any = None
    actor_class: Any = None
    init_args: Any = None
    init_kwargs: Any = None
    actor_options: Any = None


class Deployment(StrictModel):
    """Options of one deployment, over those in its code."""

    name: str
    num_replicas: Any = None
    max_ongoing_requests: Any = None
    max_queued_requests: Any = None
    backpressure_config: BackpressureConfig | None = None
    user_config: Any = None
    autoscaling_config: AutoscalingConfig | None = None
    graceful_shutdown_wait_loop_s: Any = None
    graceful_shutdown_timeout_s: Any = None
    health_check_period_s: Any = None
    health_check_timeout_s: Any = None
    ray_actor_options: RayActorOptions | None = None
    placement_group_bundles: Any = None
    placement_group_strategy: Any = None
    placement_group_bundle_label_selector: Any = None
    max_replicas_per_node: Any = None
    logging_config: LoggingConfig | None = None
    request_router_config: RequestRouterConfig | None = None
    gang_scheduling_config: GangSchedulingConfig | None = None
    deployment_actors: tuple[DeploymentActor, ...] | None = Field(None, strict=False)
    rolling_update_percentage: Any = None
    max_surge_percent: Any = None


class Application(StrictModel):
    """An application of Ray Serve: one of our functions, or another program."""

    FREE_SECTIONS: ClassVar[dict[str, type[StrictModel]]] = {"args": FunctionArgs}
    """Sections whose keys are not Ray's to know: where a key of a function's belongs."""

    name: str = Field(
        "default",
        min_length=1,
        description="The application's name; a function's name. Needed by a function.",
    )
    route_prefix: str | None = Field(
        "/",
        description=(
            "Where it is called. Left out: a function at `/v2/models/NAME`, the catalogue at `/`,"
            " the host at `/v2/models`, and another application, as in Ray, at `/`."
        ),
    )
    import_path: str = Field(
        description=(
            "Left out: `deployments:function`, which makes it a function. `deployments:catalogue`"
            " and `deployments:host` are ours too; a file that names neither has both."
        )
    )
    args: dict[str, Any] = Field(
        default={},
        description=(
            "A function's declaration. Other applications of yours: what their builder takes."
        ),
    )
    runtime_env: dict[str, Any] | None = Field(
        None, description="Ray's runtime environment of the application."
    )
    deployments: tuple[Deployment, ...] | None = Field(
        None, strict=False, description="Ray's options of its deployments."
    )
    autoscaling_policy: AutoscalingPolicy | None = Field(
        None, description="Ray's scaling policy for the whole application."
    )
    logging_config: LoggingConfig | None = Field(
        None, description="Ray's logging of the application."
    )
    external_scaler_enabled: bool = Field(
        False, description="Whether replicas are set from outside. false: Ray scales."
    )


class ServeConfig(StrictModel):
    """The file."""

    proxy_location: Literal["Disabled", "HeadOnly", "EveryNode"] | None = Field(
        None, description="Machines that take HTTP. Unset: every one."
    )
    http_options: HttpOptions = Field(HttpOptions(), description="Where HTTP is served.")
    http: HttpSection | None = Field(
        None, description="HTTP beyond what Ray has keys for; Ray ignores it."
    )
    grpc_options: GrpcOptions | None = Field(None, description="Ray's gRPC proxy.")
    controller_options: ControllerOptions | None = Field(
        None, description="Ray Serve's controller."
    )
    logging_config: LoggingConfig | None = Field(None, description="Ray Serve's logs.")
    tracing_config: TracingConfig | None = Field(None, description="Ray Serve's traces.")
    target_capacity: float | None = Field(
        None, ge=0, le=100, description="Percentage of all replica counts that is run. Unset: all."
    )
    applications: tuple[Application, ...] = Field(
        strict=False, description="The functions, and what else is served."
    )
