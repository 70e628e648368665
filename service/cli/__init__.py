"""The `cdm` command: jobs over the SDK, and the stack of this machine.

A mistake of the user ends in one line on standard error that says what to do, never in a traceback.
"""

import sys

from typer.exceptions import TyperException

from service.cli.app import app
from service.cli.errors import CommandFailed
from service.client import ClientError
from service.embedded.errors import StackError


def main() -> None:
    """Run the command of this process's arguments and exit: 0 done, 1 failed, 2 misused, others as commands say."""
    try:
        code = app(prog_name="cdm", standalone_mode=False)
    except TyperException as error:
        context = getattr(error, "ctx", None)
        _fail(
            f"{error.format_message()} (see `{context.command_path if context else 'cdm'} --help`)",
            code=error.exit_code,
        )
    except (CommandFailed, ClientError, StackError) as error:
        _fail(str(error), code=1)
    else:
        sys.exit(code)


def _fail(message: str, *, code: int) -> None:
    print("error:", " ".join(message.split()), file=sys.stderr)  # noqa: T201
    sys.exit(code)
