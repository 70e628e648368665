"""What jobs that draw do before their workers start."""

import structlog

from workers.contract.data import ImportedDataset
from workers.contract.evaluation import EvaluateSpec
from workers.contract.keys import JobKeys
from workers.contract.sampling import SampleSpec
from workers.data.fetching import OnBytes
from workers.jobs.bringing import bring_from_the_web
from workers.sampling.drawing import check_drawing
from workers.sampling.source import Source, open_source, resolve_source
from workers.storage import ObjectStore

log = structlog.get_logger()


def prepare_source(
    spec: SampleSpec | EvaluateSpec,
    keys: JobKeys,
    store: ObjectStore,
    *,
    dataset: ImportedDataset | None = None,
    on_bytes: OnBytes,
) -> Source:
    """Resolve which network it is, and see that it can draw what is wanted. `dataset`: what weights are measured by.

    Raises:
        SpecError: it cannot, or there is none.
    """
    bring_from_the_web(spec, keys, store, on_bytes=on_bytes)
    source = open_source(store, keys, resolve_source(store, keys, spec), dataset=dataset)
    check_drawing(spec, source.subject)
    log.info("source.resolved", **source.resolved.model_dump())
    return source
