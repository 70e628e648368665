"""What an operator decides about this process, by environment variables `CDM_...`. Jobs are documents, not settings."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


def _database_in_state_folder(values: dict[str, Any]) -> str:
    return f"sqlite+aiosqlite:///{values['state_folder'] / 'service.db'}"


class Settings(BaseSettings):
    """Made once at the start and passed in."""

    model_config = SettingsConfigDict(env_prefix="CDM_", frozen=True, extra="ignore")

    api_key: Annotated[SecretStr, Field(min_length=16, description="The key that clients send")]
    store_url: Annotated[str, Field(description="Object store of jobs: s3://bucket/prefix, file:///folder")]
    ray_url: Annotated[str, Field(description="Ray's dashboard: http://host:8265, or memory://name in tests")]
    mlflow_url: Annotated[str, Field(description="MLflow, as this process reaches it")]

    state_folder: Annotated[Path, Field(description="Holds the database unless database_url says otherwise")] = Path(
        "cdm-runs"
    )
    database_url: Annotated[str, Field(description="sqlite+aiosqlite:///path")] = Field(
        default_factory=_database_in_state_folder
    )
    ray_token: Annotated[SecretStr | None, Field(description="Ray's token, if its head asks for one")] = None
    mlflow_public_url: Annotated[str, Field(description="MLflow, as users' browsers reach it")] = Field(
        default_factory=lambda values: values["mlflow_url"]
    )
    worker_python: Annotated[str, Field(min_length=1, description="The Python that runs jobs, on Ray's nodes")] = (
        "python"
    )
    local_paths: Annotated[
        bool, Field(description="This process sees the workers' file system: check data set paths at submission")
    ] = False

    max_active_jobs: Annotated[int, Field(ge=1, description="Jobs on Ray at a time; the others wait here")] = 1
    max_attempts: Annotated[
        int, Field(ge=1, description="Attempts in a row that may be lost without a new checkpoint")
    ] = 3
    stop_grace_seconds: Annotated[int, Field(ge=1, description="For a last checkpoint when a job is stopped")] = 30
    reconcile_interval_seconds: Annotated[float, Field(gt=0, description="Between looks at running jobs")] = 1.0
