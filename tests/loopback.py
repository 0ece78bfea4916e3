"""An HTTP server on loopback that a test starts and stops, and that keeps what it was sent."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

os.environ["NO_PROXY"] = "127.0.0.1"  # where a proxy is configured, it does not reach this machine


class Server(ThreadingHTTPServer):
    """Keeps what was POSTed and answers with `status`; hangs, or trickles a header a byte at a time, until `stop`."""

    def __init__(self, status=200, hangs=False, trickles=False):
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.hangs, self.trickles = status, hangs, trickles
        self.stop, self.seen = Event(), []

    @property
    def place(self):
        return f"127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, dict(self.headers), json.loads(body)))
        if self.server.hangs:
            self.server.stop.wait(30)
        while self.server.trickles and not self.server.stop.wait(0.1):
            self.wfile.write(b"H")
        self.send_response(self.server.status)
        if self.server.status == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def serving(**how) -> Iterator[Server]:
    server = Server(**how)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.stop.set()
        server.shutdown()
        thread.join()
        server.server_close()
