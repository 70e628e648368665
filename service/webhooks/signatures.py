"""Secrets and signatures as the Standard Webhooks specification has them, so that receivers can use its libraries."""

import base64
import hashlib
import hmac
import secrets

_MARK = "whsec_"


def new_secret() -> str:
    return _MARK + base64.b64encode(secrets.token_bytes(32)).decode()


def signature(secret: str, *, message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`; `timestamp` in seconds since 1970."""
    key = base64.b64decode(secret.removeprefix(_MARK))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
