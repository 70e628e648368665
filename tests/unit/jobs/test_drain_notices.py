"""What a worker hears of nodes that Ray is about to lose, in the way that this release of Ray tells it."""

from collections.abc import Iterator
from dataclasses import fields
from types import SimpleNamespace

import pytest
from ray.train.v2._internal.execution.context import TrainContext, set_train_context
from ray.train.v2._internal.execution.preemption import PreemptionContext
from ray.train.v2._internal.execution.worker_group.worker import RayTrainWorker
from ray.train.v2.api.preemption import PreemptionInfo

from workers.jobs.ray_group import _DrainNotices


@pytest.fixture
def worker() -> Iterator[RayTrainWorker]:
    """One that has started, with nobody else of its group there to answer."""
    assert "preemption_context" in {field.name for field in fields(TrainContext)}
    set_train_context(SimpleNamespace(preemption_context=PreemptionContext(), get_world_rank=lambda: 0))
    yield RayTrainWorker()
    set_train_context(None)


def notice(*nodes: str) -> PreemptionInfo:
    return PreemptionInfo(deadline_ms=None, preempted_node_to_ranks={node: [0] for node in nodes})


def test_each_node_that_is_about_to_go_is_news_once(worker: RayTrainWorker) -> None:
    drains = _DrainNotices()
    news = [drains.has_news()]
    for told in (notice("one"), notice("one"), notice("one", "two"), notice("two")):
        worker.mark_preempt(told)
        news.append(drains.has_news())

    assert news == [False, True, False, True, False]
