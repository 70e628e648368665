"""Groups of commands."""

from typing import Any

from typer.core import TyperGroup


class ListsByDefault(TyperGroup):
    """Without a command, its `list`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_list = not args or (args[0].startswith("-") and args[0] != "--help")
        return super().parse_args(ctx, ["list", *args] if is_list else args)
