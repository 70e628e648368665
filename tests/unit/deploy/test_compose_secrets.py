"""deploy/compose/init.sh makes each secret once, and those that a newer version asks for when it is run again."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    return tmp_path


def _init(folder: Path) -> str:
    command = folder / "deploy/compose/init.sh"
    return subprocess.run([command], capture_output=True, text=True, check=True).stdout


def _secrets(folder: Path) -> dict[str, str]:
    lines = (folder / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_secrets_are_made_once(folder: Path) -> None:
    assert "wrote .env" in _init(folder)
    made = (folder / ".env").read_text()
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600
    assert all(len(value) >= 20 for value in _secrets(folder).values())

    assert "nothing was changed" in _init(folder)
    assert (folder / ".env").read_text() == made
    assert [path.name for path in folder.glob(".env*")] == [".env"]


def test_a_secret_that_is_new_is_added_and_nothing_else_changes(folder: Path) -> None:
    _init(folder)
    whole = _secrets(folder)
    chosen = [f"{name}={value}" for name, value in whole.items() if name != "GRAFANA_PASSWORD"]
    (folder / ".env").write_text("\n".join(["# mine", *chosen, "API_PORT=9000"]))  # its last line has no end

    assert _init(folder) == "added to .env: GRAFANA_PASSWORD\n"

    assert (
        (folder / ".env").read_text().startswith("\n".join(["# mine", *chosen, "API_PORT=9000", "GRAFANA_PASSWORD="]))
    )
    assert _secrets(folder).keys() == {*whole, "API_PORT"}
    assert len(_secrets(folder)["GRAFANA_PASSWORD"]) == 20
