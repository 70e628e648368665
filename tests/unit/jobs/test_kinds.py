"""The lists of kinds that no type checker holds complete."""

from typing import get_args

from service.jobs.views import Kind
from workers.contract.jobs import AnySpec
from workers.jobs.kinds import WORK


def test_every_kind_of_document_has_its_work_and_its_name() -> None:
    kinds = {tag for spec in get_args(AnySpec) for tag in get_args(spec.model_fields["kind"].annotation)}

    assert set(WORK) == set(get_args(Kind)) == kinds
