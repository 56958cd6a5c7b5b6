"""Stands in for a service where only its process matters: answers 200 to everything, ends on SIGTERM.

``FAKE_FAILS=NAME`` in the environment makes that one end at once, ``FAKE_STUBBORN`` all ignore SIGTERM. Started as
``python fake_service.py NAME``.
"""

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Yes(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = os.environ["FAIRLINE_PROCESS"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name is given
        """Say nothing."""


def main() -> None:
    if os.environ.get("FAKE_FAILS") == sys.argv[1]:
        sys.exit("it was told to fail")
    if os.environ.get("FAKE_STUBBORN"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ports = [int(os.environ[name]) for name in ("FAIRLINE_INTERNAL_PORT", "FAIRLINE_PORT") if name in os.environ]
    ThreadingHTTPServer(("127.0.0.1", ports[0]), Yes).serve_forever()


if __name__ == "__main__":
    main()
