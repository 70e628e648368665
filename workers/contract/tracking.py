"""How a job is known in MLflow, to whoever writes there."""

import json
import math
import posixpath
from collections.abc import Mapping

EXPERIMENT = "cdm-train"
JOB_TAG, STORE_TAG = "cdm.job_id", "cdm.store"  # together they say which run is a job's
_PROJECT_TAG, _LABEL_TAGS = "cdm.project", "cdm.label."
MAX_METRICS, MAX_PARAMS = 1000, 100  # that MLflow takes in one request


def identity(job_id: str, store_url: str) -> dict[str, str]:
    """The tags that the run of a job has, and no other run."""
    return {JOB_TAG: job_id, STORE_TAG: store_url}


def description(project: str, labels: Mapping[str, str]) -> dict[str, str]:
    """The tags that tell people of a job what its service knows. By its prefix no label is taken for another tag.

    Left out are labels of names that MLflow refuses, as `a//b`: paths that could be shorter.
    """
    named = {f"{_LABEL_TAGS}{key}": value for key, value in labels.items()}
    return {_PROJECT_TAG: project} | {tag: value for tag, value in named.items() if posixpath.normpath(tag) == tag}


def describes(tag: str) -> bool:
    """Whether `description` makes such a tag."""
    return tag == _PROJECT_TAG or tag.startswith(_LABEL_TAGS)


def run_filter(tags: Mapping[str, str]) -> str:
    """What finds runs with all these tags."""
    return " and ".join(f'tags.`{tag}` = "{value}"' for tag, value in tags.items())


def json_number(value: float) -> float | str:
    """As Protobuf has it in JSON, which knows neither infinity nor what is no number; MLflow takes these."""
    return value if math.isfinite(value) else json.dumps(value)
