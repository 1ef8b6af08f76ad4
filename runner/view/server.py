"""An HTTP server on the loopback interface."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from runner.errors import UserError

HOST = "127.0.0.1"


class Server(ThreadingHTTPServer):
    """Serves `pages`: content type and content by path."""

    daemon_threads = True
    allow_reuse_address = True  # or the port is taken for a minute after Ctrl-C
    pages: dict[str, tuple[str, bytes]]


class Handler(BaseHTTPRequestHandler):
    """Answers GET requests with the server's pages."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        host = self.headers.get("Host", "").partition(":")[0]  # port 80 is left out
        # A foreign page whose name was made to point to this machine must not read samples.
        if host not in (HOST, "localhost"):
            self.send_error(403, "This server answers to 127.0.0.1 only")
            return
        found = self.server.pages.get(self.path.partition("?")[0])
        if found is None:
            self.send_error(404)
            return
        kind, content = found
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing: the terminal shows the address."""


def listen(port: int) -> Server:
    """Return a server that listens, but does not answer yet.

    Raises:
        UserError: if the port can't be used.
    """
    try:
        return Server((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"--port {port}: {reason}; choose another port, or leave the option out"
        ) from error
