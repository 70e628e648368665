"""Which class of priority a job may have. The highest of a project bounds what is chosen, not what was before."""

from service.errors import InvalidRequest
from service.jobs.lookup import JobLookup
from service.jobs.views import ForkCreate, JobCreate, JobUpdate
from service.priorities import Priority
from workers.contract.document import Problem


async def allowed_priority(request: JobCreate | JobUpdate | ForkCreate, *, project: str, store: JobLookup) -> Priority:
    """The class that a request asks for; if it names none, the usual one, or the project's highest if that is lower.

    Raises:
        InvalidRequest: it names one above the highest of the project.
    """
    wanted, highest = request.priority, await store.max_priority(project)
    if wanted.rank <= highest.rank:
        return wanted
    if "priority" not in request.model_fields_set:
        return highest
    mend = f"or ask an admin for `cdm projects set {project} --max-priority {wanted}`"
    reason = f"jobs of the project {project} may have {highest} at most: choose no higher one, {mend}"
    wrong = Problem("/priority", "out_of_range", reason)
    raise InvalidRequest("the project may not have this priority", problems=[wrong])
