"""What workers print: one event per line."""

import sys

import structlog

_LONGEST_ERROR = 500


def configure_logging() -> None:
    """To standard output, without colours: Ray and the control plane collect it from there."""
    structlog.configure(
        logger_factory=_standard_output,
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0, pad_level=False),
        ],
    )


def _standard_output(*_names: object) -> structlog.WriteLogger:
    """To what is standard output now; structlog's own factory keeps to what was when it was imported."""
    return structlog.WriteLogger(sys.stdout)


def in_one_line(error: BaseException) -> str:
    """What kind of error it is and the first line of what it says, cut where it becomes long."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:_LONGEST_ERROR]
