#!/usr/bin/env -S python3 -ISE
"""Health checks of containers: exit 0 if all URLs answer well, else 1 and why. Ray's token is sent if there is one."""

import os
import sys
import urllib.error
import urllib.request

_TIMEOUT_SECONDS = 6  # /readyz itself waits up to five


def main() -> int:
    token = os.environ.get("RAY_AUTH_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    for url in sys.argv[1:]:
        try:
            request = urllib.request.Request(url, headers=headers)  # noqa: S310 (the URLs are those of our own files)
            urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS).close()  # noqa: S310 (as above)
        except urllib.error.HTTPError as error:
            sys.stderr.write(f"{url}: {error.code} {error.read(2000).decode(errors='replace')}\n")
            return 1
        except OSError as error:
            sys.stderr.write(f"{url}: {error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
