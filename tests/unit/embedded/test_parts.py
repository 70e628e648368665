"""What each part is started with."""

from pathlib import Path

import pytest

from service.embedded.documents import Keys, Ports
from service.embedded.folder import Folder
from service.embedded.part import Part
from service.embedded.parts import inherited_environment, parts
from service.embedded.seaweedfs import mlflow_environment

PORTS = Ports.model_validate({name: 20_000 + number for number, name in enumerate(Ports.model_fields)})
KEYS = Keys.generate()


@pytest.fixture
def by_name() -> dict[str, Part]:
    return {part.name: part for part in parts(Folder(Path("/home/ada/.cdm")), PORTS, KEYS)}


def test_no_secret_is_on_a_command_line_where_all_users_see_it(by_name: dict[str, Part]) -> None:
    secrets = (
        KEYS.api_key,
        KEYS.ray_token,
        KEYS.s3_secret_key,
        mlflow_environment(PORTS, KEYS)["AWS_SECRET_ACCESS_KEY"],
    )

    for part in by_name.values():
        assert not any(secret in argument for secret in secrets for argument in part.command), part.name


def test_nothing_reports_to_its_makers(by_name: dict[str, Part]) -> None:
    assert "-master.telemetry=false" in by_name["s3"].command
    assert "--disable-usage-stats" in by_name["ray"].command
    assert by_name["mlflow"].environment["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_servers_listen_on_loopback_and_the_one_that_cannot_asks_for_a_token(by_name: dict[str, Part]) -> None:
    assert "-ip.bind=127.0.0.1" in by_name["s3"].command
    assert "--dashboard-host=127.0.0.1" in by_name["ray"].command
    for name in ("mlflow", "api"):
        assert by_name[name].command[by_name[name].command.index("--host") + 1] == "127.0.0.1"
    assert by_name["ray"].environment["RAY_AUTH_MODE"] == "token"


def test_jobs_inherit_from_the_head_what_they_need_to_reach_s3_and_mlflow(by_name: dict[str, Part]) -> None:
    environment = by_name["ray"].environment

    assert environment["AWS_ENDPOINT_URL_S3"] == by_name["s3"].address
    assert environment["AWS_SECRET_ACCESS_KEY"] == KEYS.s3_secret_key
    assert environment["MLFLOW_TRACKING_URI"] == by_name["mlflow"].address


def test_the_shell_cannot_point_the_stack_at_other_accounts_clusters_or_proxies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "RAY_ADDRESS", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("no_proxy", "intranet")

    environment = inherited_environment()

    assert "elsewhere" not in environment.values()
    assert environment["no_proxy"] == "intranet,127.0.0.1,127.0.0.2,localhost"
    assert environment["NO_PROXY"].endswith("127.0.0.1,127.0.0.2,localhost")
