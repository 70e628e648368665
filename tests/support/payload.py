"""What a hostile pickle carries."""

import os
from pathlib import Path


class Payload:
    """Makes a folder if it is unpickled by somebody who believes it."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self._target),)
