"""All kinds of jobs there are."""

import json
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from workers.contract.comparing import CompareSpec
from workers.contract.evaluation import EvaluateSpec
from workers.contract.importing import ImportSpec
from workers.contract.sampling import SampleSpec
from workers.contract.spec import TrainSpec

AnySpec = TrainSpec | SampleSpec | EvaluateSpec | ImportSpec | CompareSpec
JobSpec = Annotated[AnySpec, Field(discriminator="kind")]

_JOB_SPEC: TypeAdapter[AnySpec] = TypeAdapter(JobSpec)


def job_schema() -> dict[str, Any]:
    """JSON schema of all kinds."""
    return _JOB_SPEC.json_schema()


def parse_job(document: Any) -> AnySpec:
    """Read a job document of any kind as it comes out of JSON or YAML.

    Raises:
        pydantic.ValidationError: naming every wrong field; see `problems_of`.
    """
    return read_job(json.dumps(document, default=str))


def read_job(text: str | bytes) -> AnySpec:
    """Read a job document out of JSON text.

    Raises:
        pydantic.ValidationError: as `parse_job`.
    """
    return _JOB_SPEC.validate_json(text)
