"""What a shell, and a client that is told of no service, find without being told."""

import subprocess
from pathlib import Path
from unittest.mock import Mock

import httpx2
import pytest

from service.client import Client, ClientError
from service.embedded.documents import Connection
from tests.support.command import Command

URL, KEY = "http://127.0.0.1:1", "a key; $(with) 'quotes'"


@pytest.fixture
def stack(cdm: Command, tmp_path: Path) -> Command:
    (tmp_path / "home").mkdir()
    Connection(url=URL, api_key=KEY).write(tmp_path / "home" / "connection.json")
    return cdm


def test_a_shell_gets_address_and_key_of_the_stack_whatever_is_in_them(stack: Command) -> None:
    answer = stack("env")
    script = f"{answer.out}printenv CDM_URL CDM_API_KEY"

    shell = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True)

    assert (answer.code, answer.err) == (0, "")
    assert shell.stdout.splitlines() == [URL, KEY]
    assert stack("env", "--json").document == {"CDM_URL": URL, "CDM_API_KEY": KEY}


def test_in_a_shell_that_has_them_the_stack_is_known_as_such(stack: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stack("env", "--json").document.items():
        monkeypatch.setenv(name, value)

    assert stack("jobs").err == f"error: the stack at {URL} does not answer: start it with `cdm up`\n"


def test_without_a_stack_nothing_is_printed_that_a_shell_would_do(cdm: Command) -> None:
    answer = cdm("env")

    assert (answer.code, answer.out) == (1, "")
    assert "there is no stack in " in answer.err
    assert "--url" not in answer.err, "it has no such option"
    assert answer.err.endswith(
        "/home: start one with `cdm up`, or set CDM_URL and CDM_API_KEY to those of another service\n"
    )


@pytest.mark.usefixtures("stack")
def test_a_client_that_is_told_of_no_service_finds_the_stack_or_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Client() as client:
        assert repr(client) == f"Client({URL!r}, api_key='***')"
    monkeypatch.setenv("CDM_URL", URL)
    with Client() as client:  # whose key it is
        assert repr(client) == f"Client({URL!r}, api_key='***')"
    monkeypatch.setenv("CDM_URL", "http://cdm.test")
    with pytest.raises(ClientError, match=r"there is no key for http://cdm\.test"):
        Client()
    monkeypatch.setenv("CDM_API_KEY", "k")
    with Client() as client:
        assert repr(client) == "Client('http://cdm.test', api_key='***')"


def test_a_client_works_in_the_project_of_the_environment_as_the_command_line_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = list[str | None]()

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.headers.get("Cdm-Project"))
        return httpx2.Response(200, json={"data": []})

    def projects(project: str | None) -> list[str | None]:
        asked.clear()
        with Client(URL, "k", project=project, transport=httpx2.MockTransport(answer)) as client:
            client.presets()
        return asked

    assert projects(None) == [None]
    monkeypatch.setenv("CDM_PROJECT", "a")
    assert projects(None) == ["a"]
    assert projects("b") == ["b"]


def test_the_stack_of_another_folder_is_not_taken_for_the_service_of_the_shell(
    stack: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDM_URL", "http://cdm.test")
    monkeypatch.setenv("CDM_API_KEY", "k")

    answer = stack("delete", "latest", "--yes", "--home", str(tmp_path / "other"))

    assert answer.code == 2
    assert answer.err.endswith("is another service than http://cdm.test, of --url or CDM_URL: leave one of them out\n")
    assert stack("env", "--json").document == {"CDM_URL": URL, "CDM_API_KEY": KEY}


def test_a_client_that_is_told_all_needs_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a container's user without a name."""
    monkeypatch.delenv("CDM_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", Mock(side_effect=RuntimeError("Could not determine home directory.")))

    with Client(URL, KEY) as client:
        assert repr(client) == f"Client({URL!r}, api_key='***')"


def test_an_empty_option_is_no_address(cdm: Command) -> None:
    answer = cdm("jobs", "--url=", "--key", "k")

    assert (answer.code, "--url is empty: give an address such as http://" in answer.err) == (2, True)


@pytest.mark.usefixtures("stack")
def test_an_empty_address_is_not_that_of_the_stack() -> None:
    with pytest.raises(ClientError, match="`base_url` is empty"):
        Client("", "k")


@pytest.mark.usefixtures("cdm")
def test_a_client_without_a_stack_says_what_to_do() -> None:
    with pytest.raises(ClientError, match=r"there is no stack in .*/home: start one with `cdm up`"):
        Client()
