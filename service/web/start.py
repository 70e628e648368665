"""Why the service cannot start, in one line."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import DatabaseInUse, DatabaseUnavailable


class StartMiddleware:
    """Where a start fails for a reason that is an operator's to mend, the server is told that alone, with no traceback.

    The server writes it to its log and ends.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        failed: Message | None = None  # held back until it is known why

        async def send_or_hold(message: Message) -> None:
            nonlocal failed
            if message["type"] == "lifespan.startup.failed":
                failed = message
            else:
                await send(message)

        try:
            await self._app(scope, receive, send_or_hold)
        except Exception as error:
            if failed is None:
                raise
            if not isinstance(error, (DatabaseInUse, DatabaseUnavailable, OSError)):
                await send(failed)
                raise
            await send({**failed, "message": f"cannot start: {_reason(error)}"})


def _reason(error: Exception) -> str:
    """With the driver's words for it: whoever reads this is no stranger."""
    if not isinstance(error, DatabaseUnavailable) or error.__cause__ is None:
        return str(error)
    cause = getattr(error.__cause__, "orig", None) or error.__cause__
    words = " ".join(f"{type(cause).__name__}: {cause}".split())
    return f"CDM_DATABASE_URL: {error.title}: {words}"
