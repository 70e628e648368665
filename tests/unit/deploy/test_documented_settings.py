"""Settings that the documentation has operators make are ones that the service reads, and all that it needs."""

import re
from pathlib import Path

from service.settings import Oidc, Settings

DOCS = Path(__file__).parents[3] / "docs"


def _settings(text: str) -> set[str]:
    """Those that are named, as fields; each has to be there."""
    named = {name.lower() for name in re.findall(r"\bCDM_([A-Z0-9_]+)", text)}
    for name in named:
        group, _, setting = name.partition("__")
        assert group in Settings.model_fields, name
        assert not setting or setting in type(Settings.model_fields[group].default).model_fields, name
    return named


def test_what_may_stand_in_the_file_beside_the_compose_file_is_read() -> None:
    (row,) = re.findall(r"^\| `api\.env` \|.*$", (DOCS / "deployment.md").read_text(), re.MULTILINE)

    assert len(_settings(row)) > 5


def test_what_is_said_of_credentials_is_read() -> None:
    named = _settings((DOCS / "credentials.md").read_text())

    assert {f"oidc__{field}" for field in Oidc.model_fields} <= named
    assert {"mlflow_token", "mlflow_username", "mlflow_password", "database_url"} <= named


def test_the_file_of_an_api_that_runs_alone_lacks_nothing() -> None:
    page = (DOCS / "kubernetes.md").read_text()
    (file,) = [block for block in page.split("```") if "CDM_API_KEY=..." in block]
    needed = {name for name, field in Settings.model_fields.items() if field.is_required()}

    assert needed <= _settings(file)
    assert all(re.fullmatch(r"# .*|[A-Z0-9_]+=[^\s\"']+", line) for line in file.strip().splitlines())
    assert len(_settings(page.partition(file)[2].split("\n\n")[1])) > 2  # the paragraph behind it
