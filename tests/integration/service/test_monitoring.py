"""What operators are shown and told is about metrics that there are."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.plane import served_in

ROOT = Path(__file__).parents[3]


@pytest.fixture
async def told(tmp_path: Path) -> set[str]:
    """The names of all that a real application tells."""
    async with served_in(tmp_path) as served:
        await served.api.get("/v1/jobs")
        text = (await served.api.get("/metrics")).text
    return {family.name for family in text_string_to_metric_families(text)} - _created(text)


def _created(text: str) -> set[str]:
    """The client library's own: when each counter began."""
    return set(re.findall(r"^# TYPE (\w+_created) ", text, re.MULTILINE))


async def test_every_metric_is_described_and_no_other(told: set[str]) -> None:
    described = set(re.findall(r"^\| `(cdm_\w+?)(?:_total)?` \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))

    assert described == {name for name in told if not name.startswith("process_")}
