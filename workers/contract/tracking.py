"""How a job is known in MLflow, to whoever writes there."""

import json
import math
import posixpath
import re
from collections.abc import Mapping

from workers.contract.data import DatasetManifest
from workers.contract.document import flattened
from workers.contract.model import effective_sigma_data
from workers.contract.spec import TrainSpec

EXPERIMENT = "cdm-train"
JOB_TAG, STORE_TAG = "cdm.job_id", "cdm.store"  # together they say which run is a job's
_PROJECT_TAG, _LABEL_TAGS = "cdm.project", "cdm.label."
_USER_TAG, _PARENT_TAG, _CONTROL_TAG = "mlflow.user", "cdm.parent", "cdm.control"  # MLflow itself shows the first
_CURVE_NAME = re.compile(r"[\w/.: -]{1,250}")  # and no path that could be shorter, or that leads out of its folder
_NOT_CURVES = ("images_seen", "time")  # what else a recorded row has
MAX_METRICS, MAX_PARAMS = 1000, 100  # that MLflow takes in one request


def identity(job_id: str, store_url: str) -> dict[str, str]:
    """The tags that the run of a job has, and no other run."""
    return {JOB_TAG: job_id, STORE_TAG: store_url}


def description(
    project: str,
    labels: Mapping[str, str],
    *,
    user: str | None = None,
    parent: str | None = None,
    control: str | None = None,
) -> dict[str, str]:
    """The tags that tell people of a job what its service knows. By its prefix no label is taken for another tag.

    Left out are labels of names that MLflow refuses, as `a//b`: paths that could be shorter.

    Args:
        user: the name of who submitted it
        parent: the id of the job that it goes on from
        control: the id of the job that it is to be compared with
    """
    named = {f"{_LABEL_TAGS}{key}": value for key, value in labels.items()}
    known = {_USER_TAG: user, _PARENT_TAG: parent, _CONTROL_TAG: control}
    return (
        {_PROJECT_TAG: project}
        | {tag: value for tag, value in known.items() if value}
        | {tag: value for tag, value in named.items() if posixpath.normpath(tag) == tag}
    )


def environment(versions: Mapping[str, str]) -> dict[str, str]:
    """The tags that tell what a job ran on, by the `versions` in its progress."""
    return {f"cdm.{name}": value for name, value in versions.items()}


def params(spec: TrainSpec, images: DatasetManifest | None, *, num_parameters: int | None) -> dict[str, str]:
    """What MLflow has of a run beside its curves. None: not known."""
    known = flattened(spec)
    if images:
        sigma_data = effective_sigma_data(spec.preconditioning, images.sigma_data)
        known |= {"dataset.digest": images.digest, "sigma_data": f"{sigma_data:.6g}"}
    return known if num_parameters is None else known | {"num_parameters": str(num_parameters)}


def check_curve_name(name: str) -> None:
    """See that a curve of this name can be recorded: MLflow refuses others, with all that comes in the same request.

    Raises:
        ValueError: it cannot; the message has the rule.
    """
    leads_out = name == "." or name.startswith(("/", ".."))
    if not _CURVE_NAME.fullmatch(name) or leads_out or posixpath.normpath(name) != name or name in _NOT_CURVES:
        raise ValueError(
            f"{name!r} cannot be the name of a curve: give 1 to 250 letters, digits, spaces and _ - . : /, with no "
            f"/ at an end or beside another, none of . and .. between them, and not {' or '.join(_NOT_CURVES)}"
        )


def describes(tag: str) -> bool:
    """Whether it is a tag of `description` that may be no longer so: a job gets new labels, and no other origin."""
    return tag == _PROJECT_TAG or tag.startswith(_LABEL_TAGS)


def run_filter(tags: Mapping[str, str]) -> str:
    """What finds runs with all these tags."""
    return " and ".join(f'tags.`{tag}` = "{value}"' for tag, value in tags.items())


def json_number(value: float) -> float | str:
    """As Protobuf has it in JSON, which knows neither infinity nor what is no number; MLflow takes these."""
    return value if math.isfinite(value) else json.dumps(value)
