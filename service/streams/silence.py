"""What a stream does while there is nothing to tell."""

from dataclasses import dataclass, field

from service.streams.shutdown import Closing

_LONGEST_SECONDS, _GROWTH = 5.0, 1.25  # a log that nothing is written to costs as much at every look as one that grows


@dataclass(slots=True, kw_only=True)
class Silence:
    """Looks grow rarer the longer it lasts, and comments tell that somebody is still there."""

    closing: Closing
    poll_seconds: float
    ping_seconds: float
    _pause: float = field(init=False)
    _since_ping: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._pause = self.poll_seconds

    def broken(self) -> None:
        """There was something to tell."""
        self._pause, self._since_ping = self.poll_seconds, 0.0

    async def goes_on(self) -> bool:
        """Wait until it is time for another look; whether a comment is due."""
        await self.closing.pause(self._pause)
        self._since_ping += self._pause
        self._pause = min(self._pause * _GROWTH, max(_LONGEST_SECONDS, self.poll_seconds))
        if self._since_ping < self.ping_seconds:
            return False
        self._since_ping = 0.0
        return True
