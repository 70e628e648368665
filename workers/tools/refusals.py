"""What a tool cannot do, in one kind of error."""

from collections.abc import Iterator
from contextlib import contextmanager

from workers.jobs.failures import UsageError
from workers.storage.errors import STORE_ERRORS
from workers.training.checkpoint import DamagedCheckpointError


@contextmanager
def refusals() -> Iterator[None]:
    """Whatever is wrong with what a tool is given, or with what lies in a store, is a UsageError."""
    try:
        yield
    except (DamagedCheckpointError, *STORE_ERRORS) as error:
        raise UsageError(str(error)) from None
