"""Waiting for a condition, with a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T | bool | None], *, timeout_seconds: float = 30.0) -> T:
    """Ask until the answer is truthy, and return it.

    Raises:
        AssertionError: it was not within the deadline.
    """
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        answer = condition()
        if answer:
            return answer  # type: ignore[return-value] # truthy, so neither None nor False
        time.sleep(0.05)
    raise AssertionError(f"not so within {timeout_seconds} s")
