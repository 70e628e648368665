"""`python -m service.admin` as an operator starts it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

NEEDED = {
    "CDM_API_KEY": "a-key-of-some-length",
    "CDM_STORE_URL": "memory://admin",
    "CDM_RAY_URL": "memory://admin",
    "CDM_MLFLOW_URL": "http://mlflow.test",
}


def admin(folder: Path, command: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "service.admin", command],
        env=os.environ | settings | {"CDM_STATE_FOLDER": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_database_is_brought_up_to_date(tmp_path: Path) -> None:
    done = admin(tmp_path, "migrate", **NEEDED)

    assert (done.returncode, done.stdout) == (0, "the database is up to date\n"), done.stderr
    assert (tmp_path / "service.db").exists()


def test_settings_that_are_missing_or_wrong_are_named_in_one_line(tmp_path: Path) -> None:
    given = {"CDM_API_KEY": "too-short", "CDM_RAY_URL": "memory://admin", "CDM_OIDC__ISSUE": "x"}

    refused = admin(tmp_path, "rebuild", **given)

    assert refused.returncode == 2
    assert refused.stderr.startswith("error: CDM_API_KEY: ")
    assert "CDM_STORE_URL: this field is required; CDM_MLFLOW_URL: this field is required" in refused.stderr
    assert "CDM_OIDC__ISSUE: unknown field" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert "too-short" not in refused.stderr


@pytest.mark.parametrize("command", ["migrate", "rebuild"])
def test_a_setting_that_cannot_be_read_at_all_is_an_error_of_one_line(tmp_path: Path, command: str) -> None:
    refused = admin(tmp_path, command, **NEEDED, CDM_OIDC="{secret")

    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")
    assert refused.stderr.count("\n") == 1
    assert "secret" not in refused.stderr
