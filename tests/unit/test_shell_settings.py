"""Tests and what they start know of no service that the shell names."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ANY_WITH_SETTINGS = "tests/unit/service/test_jobs.py::test_settings_come_from_the_environment_and_show_no_secret"
ANY_WITH_A_CLIENT = "tests/unit/cli/test_env.py::test_a_client_without_a_stack_says_what_to_do"


def test_settings_of_the_shell_are_not_those_of_tests() -> None:
    production = {"CDM_DATABASE_URL": "postgresql+asyncpg://production/cdm", "CDM_URL": "http://production"}
    shell = os.environ | production | {"CDM_API_KEY": "secret", "CDM_MAX_ACTIVE_JOBS": "many"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", ANY_WITH_SETTINGS, ANY_WITH_A_CLIENT]

    done = subprocess.run(command, cwd=ROOT, env=shell, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout
