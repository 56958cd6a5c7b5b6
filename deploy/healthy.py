# ruff: noqa: INP001 - a script that the image gets a copy of, no package
"""Says by its exit code whether the service in this container is alive: 0 when ``/livez`` answers 200, else 1.

Run by the image's HEALTHCHECK, in the environment of the service, which knows its port. Only the standard library,
because it is started every ten seconds.
"""

import http.client
import os
import sys

TIMEOUT_S = 4.0


def main() -> int:
    """Ask once."""
    # The gateway has its health on the public port; the others have an internal one.
    port = os.environ.get("FAIRLINE_INTERNAL_PORT") or os.environ.get("FAIRLINE_PORT")
    if not port:
        print("neither FAIRLINE_INTERNAL_PORT nor FAIRLINE_PORT is set", file=sys.stderr)  # noqa: T201 - seen by inspect
        return 1
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/livez")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"/livez on port {port}: {error!r}", file=sys.stderr)  # noqa: T201
        return 1
    finally:
        connection.close()
    print(f"/livez on port {port}: {status}")  # noqa: T201
    return 0 if status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
