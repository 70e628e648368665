"""Why a service does not start: one line that names what is wrong, and what would be right."""

import fcntl
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message

from service.app import create_app, create_app_from_environment
from service.environment import SettingsRefused, settings_from_environment
from service.settings import Settings
from tests.support.plane import settings_in

ROOT = Path(__file__).parents[3]
NEEDED = {
    "CDM_API_KEY": "a-key-of-some-length",
    "CDM_STORE_URL": "memory://environment",
    "CDM_RAY_URL": "memory://environment",
    "CDM_MLFLOW_URL": "http://mlflow.test",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("CDM_API_KEY", "too-short", "CDM_API_KEY: Value should have at least 16 items after validation, not 9"),
        ("CDM_RAY_URL", "ray-head:8265", "CDM_RAY_URL: write it as http://host:8265"),
        ("CDM_MLFLOW_URL", "sqlite:///mlflow.db", "CDM_MLFLOW_URL: write it as http://host:5000"),
        ("CDM_STORE_URL", "bucket", "CDM_STORE_URL: write it as s3://bucket/prefix or file:///folder"),
        (
            "CDM_DATABASE_URL",
            "postgresql://cdm:secret@host/cdm",
            "CDM_DATABASE_URL: write it as sqlite:///path or postgresql+asyncpg://user:password@host/name",
        ),
        (
            "CDM_S3_SOURCES",
            "s3://bucket/sets",
            'CDM_S3_SOURCES: it is no JSON; write a list as ["..."], and a group as {"name": "value"}',
        ),
        ("CDM_S3_SOURCES", '["bucket"]', "CDM_S3_SOURCES: String should match pattern '^s3://[^/?#]+(/[^?#]*)?$'"),
        ("CDM_MAX_ACTIV_JOBS", "0", "CDM_MAX_ACTIV_JOBS: there is no such setting; did you mean CDM_MAX_ACTIVE_JOBS?"),
        ("CDM_OIDC_ISSUER", "x", "CDM_OIDC_ISSUER: there is no such setting; did you mean CDM_OIDC__ISSUER?"),
        ("CDM_OIDC__ISSUE", "x", "CDM_OIDC__ISSUE: unknown field; remove it or check its spelling"),
    ],
)
def test_a_wrong_or_misspelt_setting_is_named_with_what_would_be_right(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsRefused) as refused:
        settings_from_environment()

    assert str(refused.value) == said


def test_all_that_is_lacking_is_named_and_nothing_that_follows_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CDM_API_KEY")
    monkeypatch.delenv("CDM_MLFLOW_URL")
    monkeypatch.setattr("service.app.configure_logging", lambda: None)  # it would hold for all tests that follow

    with pytest.raises(SystemExit) as ended:
        create_app_from_environment()

    wrong = "CDM_API_KEY: this field is required; CDM_MLFLOW_URL: this field is required"
    assert ended.value.code == f"error: {wrong}"  # Python writes it to standard error, and ends with 1


def test_other_variables_of_this_prefix_are_nobody_s_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [path for folder in ("service", "workers", "deploy") for path in (ROOT / folder).rglob("*.*")]
    files += [ROOT / "docker-compose.yml"]
    text = "".join(path.read_text() for path in files if path.suffix in {".py", ".md", ".yaml", ".yml", ".sh"})
    known = {f"CDM_{field.upper()}" for field in Settings.model_fields}
    others = {name for name in re.findall(r"CDM_[A-Z0-9_]*[A-Z0-9]\b", text) if name.partition("__")[0] not in known}
    others |= {"CDM_DATABASE_PORT", "CDM_MLFLOW_PORT", "CDM_STORE_PORT"}  # Kubernetes makes such, of names of services
    assert {"CDM_URL", "CDM_HOME", "CDM_CACHE", "CDM_DATABASE_PASSWORD"} <= others
    for name in others:
        monkeypatch.setenv(name, "1")

    assert settings_from_environment().max_active_jobs == 16


async def _started(**changes: Any) -> list[Message]:
    """What a service that is started tells the server."""
    told: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        told.append(message)

    await create_app(settings_in(**changes))({"type": "lifespan", "state": {}}, receive, send)
    return told


async def test_a_database_that_another_process_holds_is_told_in_one_line(tmp_path: Path) -> None:
    with (tmp_path / "service.db.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("123")
        held.flush()

        [failed] = await _started(folder=tmp_path)

    said = f"cannot start: {tmp_path}/service.db is in use by process 123: end that one, or use another"
    assert failed == {"type": "lifespan.startup.failed", "message": said}


async def test_a_database_that_is_not_there_is_told_in_one_line_with_the_drivers_words(tmp_path: Path) -> None:
    url = "postgresql+asyncpg://cdm:secret@127.0.0.1:1/cdm"

    [failed] = await _started(folder=tmp_path, database_url=url)

    assert failed["message"].startswith("cannot start: CDM_DATABASE_URL: The database cannot be used: Connection")
    assert "\n" not in failed["message"]
    assert "secret" not in failed["message"]


async def test_a_mistake_of_ours_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("service.app.open_parts", broken)

    with pytest.raises(ZeroDivisionError):
        await _started(folder=tmp_path)


def test_the_process_ends_with_one_line() -> None:
    code = "from service.app import create_app_from_environment as create; create()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})

    assert ended.returncode == 1
    assert ended.stderr.startswith("error: CDM_API_KEY: this field is required; ")
    assert ended.stderr.count("\n") == 1
