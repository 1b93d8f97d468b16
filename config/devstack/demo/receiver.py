"""
A receiver of webhooks as an agent's owner would write one, with the public library `standardwebhooks`.

A process of its own. Each line on its standard input is JSON, `{"path": …, "secret": …}`: where an endpoint's events
come and what they are signed with. What was signed rightly is a line of the file, written before the answer.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TextIO

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

SECRETS: dict[str, str] = {}
received: TextIO
_one_at_a_time = threading.Lock()


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            event = Webhook(SECRETS[self.path]).verify(body, dict(self.headers))
        except (KeyError, WebhookVerificationError):
            self._answer(401)
            return
        line = json.dumps({"path": self.path, "id": self.headers["webhook-id"], "event": event})
        with _one_at_a_time:
            print(line, file=received, flush=True)
        self._answer(204)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing at the terminal: the story is told there."""


def main(file: str) -> None:
    global received
    with open(file, "a") as received, ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_port, flush=True)
        for line in sys.stdin:
            endpoint = json.loads(line)
            SECRETS[endpoint["path"]] = endpoint["secret"]


if __name__ == "__main__":
    main(sys.argv[1])
