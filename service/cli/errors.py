"""What a command cannot do."""


class CommandFailed(Exception):
    """The text is one line that says what is wrong and what to do."""
