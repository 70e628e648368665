"""What `cdm up` says when all is ready."""

from pathlib import Path

import pytest

from service.cli.stack import _announce
from service.embedded.documents import Ports, Run
from service.embedded.folder import Folder
from service.embedded.supervision import StackReady


@pytest.mark.parametrize(("port", "is_said"), [(8400, False), (9000, False), (21_000, True)])
def test_a_port_that_stands_in_for_the_usual_one_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], port: int, is_said: bool
) -> None:
    folder = Folder.at(tmp_path)
    ports = Ports(**dict.fromkeys(Ports.model_fields, port))
    Run(pid=1, created_at=0, ready=False, ports=ports).write(folder.run)

    _announce(folder, StackReady(2.0), as_json=False)

    said = capsys.readouterr().out
    assert said.startswith("ready after 2.0 s: submit a job with `cdm submit fashion16`, stop with `cdm down`\n")
    words = "8400 was in use, so the API is on 21000; `cdm up --api-port 8400` takes that again once it is free"
    assert (words in said) is is_said
