"""Small job documents for tests."""

from typing import Any

from workers.contract.presets import PRESETS
from workers.contract.spec import TrainSpec, parse_spec


def smoke_spec(**changes: Any) -> TrainSpec:
    """The `smoke` preset with some top-level fields replaced."""
    return parse_spec(PRESETS["smoke"].model_dump(mode="json") | changes)
