"""`cdm` in this process: what it prints and with which code it exits."""

import json
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from service.cli import main


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


class Command:
    """Call it with arguments."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Answer:
        self._monkeypatch.setattr(sys, "argv", ["cdm", *arguments])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self._capsys.readouterr()
        return Answer(int(ended.value.code or 0), out, err)

    def offered(self, words: str) -> list[str]:
        """What bash is offered for the last word, however slow this machine is just now."""
        number = str(len(words.split(" ")) - 1)
        asked = {"_CDM_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": number}
        with self._monkeypatch.context() as patched:
            for name, value in asked.items():
                patched.setenv(name, value)
            for limit in ("_REQUEST_SECONDS", "_PATIENCE_SECONDS"):
                patched.setattr(f"service.cli.completion.{limit}", 60.0)
            answer = self()
        assert (answer.code, answer.err) == (0, "")
        return answer.out.split()
