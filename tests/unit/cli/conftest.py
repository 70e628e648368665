"""A `cdm` that knows of no stack and no service but those it is told of."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Command
from tests.support.served import Service, served


@pytest.fixture
def cdm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.setenv("CDM_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CDM_URL", raising=False)
    monkeypatch.delenv("CDM_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


@pytest.fixture
def service(cdm: Command, tmp_path: Path) -> Iterator[Service]:
    with served(cdm, tmp_path) as service:
        yield service
