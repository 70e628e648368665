"""Secrets of the environment, kept out of what is printed."""

import os
import re
from collections.abc import Iterable, Mapping
from typing import Self

_TELLING_NAME = re.compile("KEY|SECRET|TOKEN|PASSWORD", re.IGNORECASE)
_PASSWORD_IN_URL = re.compile(r"://[^/\s:@]*:([^/\s@]+)@")
_SHORTEST = 8  # shorter values are not secrets, and may be parts of words


class Redaction:
    """Replaces known secrets by `[redacted]`."""

    def __init__(self, secrets: Iterable[str]) -> None:
        """A secret of several lines is known by each of them; what is shorter than 8 characters is none."""
        lines = {line for secret in secrets for line in secret.splitlines() if len(line) >= _SHORTEST}
        longest_first = sorted(lines, key=len, reverse=True)
        self.longest = len(longest_first[0]) if longest_first else 0
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """What variables named KEY, SECRET, TOKEN or PASSWORD hold, and the passwords in URLs."""
        named = [value for name, value in environment.items() if _TELLING_NAME.search(name)]
        return cls([*named, *(found for value in environment.values() for found in _PASSWORD_IN_URL.findall(value))])

    def __call__(self, text: str) -> str:
        return self._pattern.sub("[redacted]", text) if self._pattern else text
