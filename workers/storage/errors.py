"""What a store may say, of whatever kind it is."""

import errno

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    SSLError,
)

from workers.storage.job_files import StoreRefusedError

STORE_OUTAGES = (OSError, BotoCoreError, ClientError)  # it may come back: tried again
STORE_ERRORS = (*STORE_OUTAGES, ValueError)  # or it is named wrongly

_KEYS = "give the workers keys that it knows (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN)"
_REACH = "see that the machines of the workers reach it (AWS_ENDPOINT_URL_S3)"
_MENDS_BY_CODE = {
    "RequestTimeTooSkewed": "set the clocks of the workers and of the store",
    "InvalidAccessKeyId": _KEYS,
    "SignatureDoesNotMatch": _KEYS,
    "ExpiredToken": _KEYS,
    "InvalidToken": _KEYS,
    "NoSuchBucket": "create the bucket, or correct its name",
    "SlowDown": "let fewer jobs run at a time, or give it more room",
}


def refusal(error: Exception) -> str | None:
    """What a store has refused, or the way to it, and what to do if that is known; None: it is no error of a store.

    What a disk refuses counts, too: it may be that of a store that is a folder, or the node's own.
    """
    match error:
        case BotoCoreError() | ClientError():
            mend = _mend(error)
            return f"{str(error).rstrip('.')}; {mend}" if mend else str(error)
        case StoreRefusedError(key=str(place)) | PermissionError(filename=str(place)):
            return f"access is denied: {place}; give the workers the right to read and write it"
        case OSError(errno=errno.EROFS, filename=str(place)):
            return f"a disk is read-only: {place}; let the workers write to it"
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return f"a disk is full: {error}"
        case _:
            return None


def _mend(error: BotoCoreError | ClientError) -> str | None:
    match error:
        case ClientError():
            return _MENDS_BY_CODE.get(error.response.get("Error", {}).get("Code", ""))
        case NoCredentialsError() | PartialCredentialsError():
            return _KEYS
        case EndpointConnectionError() | ConnectTimeoutError():
            return _REACH
        case SSLError():
            return "let AWS_CA_BUNDLE name the certificates that it is trusted by, or correct AWS_ENDPOINT_URL_S3"
        case _:
            return None
