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
    home = Path(os.environ.get("CDM_HOME") or "~/.cdm")
    stack_url, stack_key = _stack_in(home)
    url = (os.environ.get("CDM_URL") or stack_url) if base_url is None else base_url
    if url is None:
        start = "start one with `cdm up`, give `base_url` and `api_key`, or set CDM_URL and CDM_API_KEY"
        raise ClientError(f"there is no stack in {home}: {start}")
    if not url:
        raise ClientError("`base_url` is empty: see that the variable or file that it is read from has an address")
    key = os.environ.get("CDM_API_KEY") or (stack_key if url == stack_url else None) if api_key is None else api_key
    if key is None:
        raise ClientError(f"the API key is missing: there is no key for {url}, so give `api_key`, or set CDM_API_KEY")
    return url, key


def _stack_in(home: Path) -> tuple[str | None, str | None]:
    """Its address and key, as `cdm up` has written them; None if there is no stack."""
    try:
        stack = json.loads((home.expanduser() / "connection.json").read_bytes())
        return stack["url"], stack["api_key"]
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):  # the last: this user has no home
        return None, None
