"""What an operator decides about this process, by environment variables `CDM_...`. Jobs are documents, not settings.

Groups nest by two underscores: `CDM_OIDC__ISSUER`.
"""

import base64
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Oidc(_Group):
    """Bearer tokens of an identity provider beside API keys; off without an issuer."""

    issuer: Annotated[str | None, Field(description="The `iss` of its tokens")] = None
    audience: Annotated[str, Field(description="The `aud` that names this service")] = "cdm-train"
    jwks_url: Annotated[str | None, Field(description="Its keys; default: found from the issuer")] = None
    project_claim: Annotated[str, Field(description="Claim that holds the project")] = "cdm_project"
    scopes_claim: Annotated[str, Field(description="Claim that holds the scopes, a list or words")] = "scope"
    default_project: Annotated[str | None, Field(description="Of tokens that name none; null: they are refused")] = None


class RayGrowsTo(_Group):
    """What all nodes together have once Ray's autoscaler has added the last: jobs may fill that, and others wait."""

    cpus: Annotated[float, Field(ge=0, description="0: as many as there are")] = 0.0
    gpus: Annotated[float, Field(ge=0, description="0: as many as there are")] = 0.0


class Requests(_Group):
    """How much one client may ask."""

    max_body_bytes: Annotated[int, Field(ge=1024, description="Of one request")] = 128 << 10
    per_minute: Annotated[int, Field(ge=1, description="Requests of one key")] = 3000
    timeout_seconds: Annotated[float, Field(gt=0, description="For a request to arrive whole")] = 30.0
    failures_per_minute: Annotated[int, Field(ge=1, description="Requests of one address without a valid key")] = 60


class UploadLimits(_Group):
    """Files that clients send."""

    max_bytes: Annotated[int, Field(ge=1, description="Of one file")] = 100 << 30
    project_bytes: Annotated[int, Field(ge=1, description="Of all that a project has at a time")] = 1 << 40
    project_files: Annotated[int, Field(ge=1, description="That a project has at a time")] = 1000
    keep_hours: Annotated[float, Field(gt=0, description="From when it is announced until it is removed")] = 72.0


class Retries(_Group):
    """How often a lost attempt is followed by another. Counted in a row: a new checkpoint starts again."""

    platform: Annotated[int, Field(ge=0, description="After failures of machines, engine or store")] = 10
    user: Annotated[int, Field(ge=0, description="After errors of the training code")] = 0
    back_off_seconds: Annotated[
        float, Field(ge=0, description="Before the first, or up to half less; doubled each time, up to 600")
    ] = 10.0


class Watch(_Group):
    """When a job counts as stuck."""

    start_timeout_seconds: Annotated[float, Field(gt=0, description="The engine took it and no driver began")] = 900.0
    stall_timeout_seconds: Annotated[
        float,
        Field(gt=0, description="No new image for so long, at least; no first one for compute.start_seconds more"),
    ] = 300.0
    restart_stalled: Annotated[bool, Field(description="Begin another attempt then, instead of only saying so")] = False


def _begins(url: str, *beginnings: str, like: str) -> str:
    if not url.startswith(beginnings):
        raise PydanticCustomError("url_form", "write it as {like}", {"like": like})
    return url


def _database_in_state_folder(values: dict[str, Any]) -> str:
    return f"sqlite:///{values['state_folder'] / 'service.db'}"


class Settings(BaseSettings):
    """Made once at the start and passed in."""

    model_config = SettingsConfigDict(
        env_prefix="CDM_", env_nested_delimiter="__", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    api_key: Annotated[SecretStr, Field(min_length=16, description="The first key, with all rights in all projects")]
    store_url: Annotated[str, Field(description="Object store of jobs: s3://bucket/prefix, file:///folder")]
    store_public_endpoint: Annotated[
        str | None, Field(description="The S3 server as clients reach it, where links lead; null: AWS_ENDPOINT_URL_S3")
    ] = None
    ray_url: Annotated[str, Field(description="Ray's dashboard: http://host:8265, or memory://name in tests")]
    mlflow_url: Annotated[str, Field(description="MLflow, as this process reaches it")]

    state_folder: Annotated[Path, Field(description="Holds the database unless database_url says otherwise")] = Path(
        "cdm-runs"
    )
    database_url: Annotated[str, Field(description="sqlite:///path or postgresql+asyncpg://...")] = Field(
        default_factory=_database_in_state_folder
    )
    ray_token: Annotated[SecretStr | None, Field(description="Ray's token, if its head asks for one")] = None
    mlflow_public_url: Annotated[str, Field(description="MLflow, as users' browsers reach it")] = Field(
        default_factory=lambda values: values["mlflow_url"]
    )
    mlflow_username: Annotated[str | None, Field(description="Where MLflow has a login, together with a password")] = (
        None
    )
    mlflow_password: Annotated[SecretStr | None, Field(description="Of that user")] = None
    mlflow_token: Annotated[SecretStr | None, Field(description="Where it takes a bearer token")] = None
    worker_python: Annotated[str, Field(min_length=1, description="The Python that runs jobs, on Ray's nodes")] = (
        "python"
    )
    local_paths: Annotated[
        bool,
        Field(description="This process sees the workers' file system: paths in documents are checked at submission"),
    ] = False
    s3_sources: Annotated[
        tuple[Annotated[str, Field(pattern=r"^s3://[^/?#]+(/[^?#]*)?$")], ...],
        Field(description="s3://bucket/prefix that jobs' files may be read from, by the workers' own rights"),
    ] = ()
    allow_private_addresses: Annotated[bool, Field(description="Webhooks may go to loopback and private addresses")] = (
        False
    )
    otlp_endpoint: Annotated[str | None, Field(description="Where OpenTelemetry spans go, by OTLP over HTTP")] = None

    max_active_jobs: Annotated[
        int, Field(ge=0, description="Jobs on Ray at a time, each with a driver; 0: none is started")
    ] = 16
    stop_grace_seconds: Annotated[int, Field(ge=1, description="For a last checkpoint when a job is stopped")] = 30
    reconcile_interval_seconds: Annotated[
        float, Field(gt=0, description="Between rounds: who may start, what became of jobs, what follows their end")
    ] = 1.0
    sweep_interval_seconds: Annotated[float, Field(gt=0, description="Between looks for orphans on Ray")] = 60.0
    lease_seconds: Annotated[float, Field(gt=0, description="A replica that sleeps longer loses its jobs")] = 60.0

    oidc: Oidc = Oidc()
    ray_grows_to: RayGrowsTo = RayGrowsTo()
    requests: Requests = Requests()
    uploads: UploadLimits = UploadLimits()
    retries: Retries = Retries()
    watch: Watch = Watch()

    @field_validator("store_url")
    @classmethod
    def _is_a_store(cls, url: str) -> str:
        return _begins(url, "s3://", "file:///", "memory://", like="s3://bucket/prefix or file:///folder")

    @field_validator("ray_url")
    @classmethod
    def _is_an_engine(cls, url: str) -> str:
        return _begins(url, "http://", "https://", "memory://", like="http://host:8265")

    @field_validator("mlflow_url")
    @classmethod
    def _is_a_server(cls, url: str) -> str:
        return _begins(url, "http://", "https://", like="http://host:5000")

    @field_validator("database_url")
    @classmethod
    def _is_a_database(cls, url: str) -> str:
        known = "sqlite:///", "postgresql+asyncpg://"
        return _begins(url, *known, like="sqlite:///path or postgresql+asyncpg://user:password@host/name")

    @property
    def mlflow_headers(self) -> dict[str, str]:
        """What every request to MLflow has with it. Workers have `MLFLOW_TRACKING_...` variables for it."""
        if self.mlflow_token:
            return {"Authorization": f"Bearer {self.mlflow_token.get_secret_value()}"}
        if self.mlflow_username and self.mlflow_password:
            pair = f"{self.mlflow_username}:{self.mlflow_password.get_secret_value()}"
            return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        return {}

    @property
    def stop_patience(self) -> timedelta:
        """From the wish to stop to force: Ray kills after the grace and 15 s, and then needs a moment to say so."""
        return timedelta(seconds=self.stop_grace_seconds + 60)
