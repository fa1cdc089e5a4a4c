"""Pages: the dashboard and the API's documentation, static files of this package, served from memory.

No file is ever looked up by what a request says: a path is in the table or it is not there.
"""

from __future__ import annotations

from importlib.resources import files
from zlib import crc32

from fedbus_serve.answer import Answer, Header

_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".svg": b"image/svg+xml",
}
_POLICY = b"default-src 'self'; img-src 'self' data:; frame-ancestors 'self'"
_SERVED = {
    "/": "index.html",
    "/docs": "docs.html",
    "/dashboard/docs.js": "docs.js",
    "/dashboard/dashboard.js": "dashboard.js",
    "/dashboard/charts.js": "charts.js",
    "/dashboard/map.js": "map.js",
    "/dashboard/dashboard.css": "dashboard.css",
    "/dashboard/vendor/uPlot.iife.min.js": "vendor/uPlot.iife.min.js",
    "/dashboard/vendor/uPlot.min.css": "vendor/uPlot.min.css",
}


class Pages:
    """The static pages by path (below the route prefix)."""

    def __init__(self) -> None:
        folder = files("fedbus_serve").joinpath("dashboard")
        self._answers = {path: _page(name, folder.joinpath(name).read_bytes()) for path, name in _SERVED.items()}

    def get(self, path: str, headers: list[Header]) -> Answer | None:
        """The page at this path, ``None`` if there is none; 304 if the caller has it."""
        answer = self._answers.get(path)
        if answer is None:
            return None
        etag = answer.headers[0][1]
        if any(name == b"if-none-match" and value == etag for name, value in headers):
            return Answer(304, answer.content_type, b"", answer.headers)
        return answer


def _page(name: str, body: bytes) -> Answer:
    suffix = name[name.rindex(".") :]
    etag = f'"{crc32(body):08x}"'.encode()
    headers = (
        (b"etag", etag),
        (b"cache-control", b"no-cache"),
        (b"content-security-policy", _POLICY),
        (b"x-content-type-options", b"nosniff"),
    )
    return Answer(200, _TYPES[suffix], body, headers)
