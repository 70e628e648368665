"""`cdm export` and `cdm average`, about what is around the tools that they call."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from service.cli import averages
from service.embedded.documents import Keys, Ports, Run
from service.embedded.folder import Folder
from service.embedded.seaweedfs import client_environment
from tests.support.command import Command


def test_registering_knows_the_stack_and_no_other_account_and_leaves_no_key_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, keys = Folder.at(tmp_path), Keys.generate()
    ports = Ports(**{name: 21_000 + number for number, name in enumerate(Ports.model_fields)})
    Run(pid=1, created_at=0, ready=True, ports=ports).write(folder.run)
    keys.write(folder.keys)
    monkeypatch.setenv("AWS_PROFILE", "another")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://another.example.org")
    before = dict(os.environ)

    with averages._environment_of_stack(tmp_path):
        inside = dict(os.environ)

    assert inside.items() >= client_environment(ports, keys).items()
    assert inside["MLFLOW_TRACKING_URI"] == f"http://127.0.0.1:{ports.mlflow}"
    assert "AWS_PROFILE" not in inside
    assert os.environ == before


def test_an_interrupted_tool_ends_as_any_command_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cdm: Command
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("workers.tools.average.planned", interrupt)

    answer = cdm("average", f"{tmp_path}/jobs/job_1", "--relative-width", "0.1", "-o", "out.safetensors")

    assert (answer.code, answer.out, answer.err) == (130, "", "")


def test_where_the_average_is_may_be_said_in_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cdm: Command
) -> None:
    monkeypatch.setattr("workers.tools.average.planned", lambda *_, **__: SimpleNamespace(keys=[], warning=None))
    monkeypatch.setattr("workers.tools.average.write", lambda *_: "done")
    given = ("average", f"{tmp_path}/jobs/job_1", "--relative-width", "0.1", "-o", "out.safetensors")

    assert cdm(*given).out == "out.safetensors: done\n"
    assert cdm(*given, "--json").document == {"path": str(tmp_path / "out.safetensors")}
