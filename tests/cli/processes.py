"""Running the command as its users do: as a process, with a backend behind it."""

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMAND = [sys.executable, "-m", "spooky.cli.main"]
END_SECONDS = 60


class Echo(BaseHTTPRequestHandler):
    """Answers with the method, a field of the request and its body."""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        answer = f"{self.command} {self.path} {self.headers.get('x-name')} {body.decode()}".encode()
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_PUT = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def backend() -> Iterator[str]:
    """Run a backend; give its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command that goes on until it is told to stop."""
    running = subprocess.Popen(
        [*COMMAND, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def line_with(running: subprocess.Popen[str], part: str) -> str:
    """Read stderr up to the line that has ``part`` in it."""
    assert running.stderr is not None
    seen = []
    for line in running.stderr:
        seen.append(line)
        if part in line:
            return line
    raise AssertionError(f"it ended without saying {part!r}: {''.join(seen)}")


def request(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``spooky request``."""
    return subprocess.run(
        [*COMMAND, "request", *arguments],
        capture_output=True,
        text=True,
        timeout=END_SECONDS,
        check=False,
    )


def on_terminal(*arguments: str, no_color: str) -> str:
    """Run a command whose stdout is a terminal; give what it shows there.

    Arguments:
        no_color: What ``NO_COLOR`` is; empty to leave it out.
    """
    ours, theirs = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm"}
    if no_color:
        environment["NO_COLOR"] = no_color
    try:
        subprocess.run(
            [*COMMAND, *arguments], stdout=theirs, stderr=subprocess.DEVNULL, env=environment,
            check=False, timeout=END_SECONDS,
        )  # fmt: skip
        return os.read(ours, 65_536).decode()
    finally:
        os.close(theirs)
        os.close(ours)
