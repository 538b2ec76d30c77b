"""A webhook on this machine that receives what people are told."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from dying import wait_until

HIDDEN = "/services/T0HIDDEN/B0HIDDEN/hidden"
"""A path as Slack's, which whoever knows it may write to."""


@dataclass
class Receiver:
    """A local HTTP server that keeps what it is sent, and answers as a test wants."""

    address: str
    received: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200

    def text(self, run: str) -> str:
        """Wait for the one message about a run."""
        wait_until(lambda: self.about(run))
        (text,) = self.about(run)
        return text

    def about(self, run: str) -> list[str]:
        texts = [each.get("text") or each["message"] for each in self.received]
        return [text for text in texts if run in text]


@contextmanager
def listening() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            receiver.received.append(body)
            self.send_response(receiver.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.server_port}{HIDDEN}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
