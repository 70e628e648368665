"""What a command cannot do."""


class CommandFailed(Exception):
    """The text is one line that says what is wrong and what to do."""

    exit_code = 1


class CommandMisused(CommandFailed):
    """What it was given cannot be done, whatever the service says."""

    exit_code = 2
