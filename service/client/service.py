"""Which service a client talks to that is told of none."""

import json
import os
from pathlib import Path

from service.client.errors import ClientError


def service_of(base_url: str | None, api_key: str | None) -> tuple[str, str]:
    """Address and key: those that are given, else those of `CDM_URL` and `CDM_API_KEY`, else of this machine's stack.

    Raises:
        ClientError: there is no stack, or no key for the address.
    """
    url = (os.environ.get("CDM_URL") or None) if base_url is None else base_url
    key = (os.environ.get("CDM_API_KEY") or None) if api_key is None else api_key
    if url is None:
        stack = _stack()
        return stack["url"], stack["api_key"] if key is None else key
    if key is None:
        raise ClientError(f"there is no key for {url}: give `api_key`, or set CDM_API_KEY")
    return url, key


def _stack() -> dict[str, str]:
    """As `cdm up` has written it."""
    home = Path(os.environ.get("CDM_HOME") or "~/.cdm").expanduser()
    try:
        stack = json.loads((home / "connection.json").read_bytes())
        return {name: stack[name] for name in ("url", "api_key")}
    except (OSError, ValueError, KeyError, TypeError):
        start = "start one with `cdm up`, give `base_url` and `api_key`, or set CDM_URL and CDM_API_KEY"
        raise ClientError(f"there is no stack in {home}: {start}") from None
