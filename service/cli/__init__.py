"""The `cdm` command: jobs over the SDK, and the stack of this machine.

What cannot be done ends in one line on standard error that says what to do, never in a traceback.
"""

import os
import sys
from typing import NoReturn

from typer.exceptions import TyperException

from service.cli import hints
from service.cli.app import app
from service.cli.errors import CommandFailed
from service.client import ClientError
from service.embedded.errors import StackError


def main() -> None:
    """Run the command of this process's arguments and exit, with a code that `cdm --help` explains."""
    hints.forget()
    try:
        code = app(prog_name="cdm", standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        context = getattr(error, "ctx", None)
        _fail(
            f"{error.format_message()} (see `{context.command_path if context else 'cdm'} --help`)",
            code=error.exit_code,
        )
    except CommandFailed as error:
        _fail(str(error), code=error.exit_code)
    except (ClientError, StackError) as error:
        _fail(str(error), code=1)
    except OSError as error:
        _drop_output()
        if isinstance(error, BrokenPipeError):  # whoever read it has heard enough
            sys.exit(1)
        where = f" {error.filename}" if error.filename else ""
        _fail(f"cannot read or write{where}: {error.strerror or error}", code=1)
    sys.exit(code)


def _drop_output() -> None:
    """What is still to be written is not tried again when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, *, code: int) -> NoReturn:
    print("error:", " ".join(message.split()), file=sys.stderr)  # noqa: T201
    sys.exit(code)
