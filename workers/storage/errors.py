"""What a store may say, of whatever kind it is."""

from botocore.exceptions import BotoCoreError, ClientError

STORE_OUTAGES = (OSError, BotoCoreError, ClientError)  # it may come back: tried again
STORE_ERRORS = (*STORE_OUTAGES, ValueError)  # or it is named wrongly
