"""What can go wrong with a job, beyond what its parts raise themselves."""


class UsageError(Exception):
    """The command cannot be carried out as given; the message says what to change."""


class ClaimRefusedError(Exception):
    """Somebody else runs this attempt, or a later one: leave, and touch nothing."""


class LeftEarlyError(Exception):
    """It was asked to leave before there was anything to keep."""


class LeftWaitingError(Exception):
    """It was asked to leave while there was no room for its workers."""


class WorkersLostError(Exception):
    """Worker processes died more often than the job allows."""
