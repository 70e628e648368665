"""Which files a request for a job names, by the JSON pointer of each field."""

from service.jobs.views import JobCreate
from workers.contract.data import BuiltinDataset, ImportedDataset
from workers.contract.files import INITIAL_WEIGHTS, WEIGHTS, files_of, measuring_files
from workers.contract.importing import ImportSpec
from workers.contract.jobs import AnySpec
from workers.contract.spec import TrainSpec

DATASET = "/spec/dataset/path"
OWN_WEIGHTS = (f"/spec{INITIAL_WEIGHTS}", f"/spec{WEIGHTS}")  # may be a job's of the same project


def named_files(request: JobCreate) -> dict[str, str]:
    """Every file beside the data set that a worker would read for it, and for evaluations that follow, and tell of."""
    wanted = request.evaluations
    following = measuring_files(wanted.features, wanted.reference) if wanted else {}
    return {f"/spec{pointer}": location for pointer, location in files_of(request.spec).items()} | {
        f"/evaluations{pointer}": location for pointer, location in following.items()
    }


def dataset_path(spec: AnySpec) -> str | None:
    """Where the images lie, if they are to be imported from somewhere."""
    dataset = spec.dataset if isinstance(spec, TrainSpec | ImportSpec) else None
    return None if dataset is None or isinstance(dataset, BuiltinDataset | ImportedDataset) else dataset.path
