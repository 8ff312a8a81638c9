"""`/api/swagger`: Swagger UI for the documents of all services, served from a package. Nothing comes from elsewhere.

A document is named by its path on this host, behind a gateway; by `:port/path` on another port of it; or by its URL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import swagger_ui_bundle
from tornado.web import RequestHandler

from skep.errors import NotFound
from skep.web import json

OWN = Path(__file__).parent
PACKAGED = Path(swagger_ui_bundle.swagger_ui_path)
FILES = {
    "swagger-ui.css": (PACKAGED, "text/css; charset=utf-8"),
    "swagger-ui-bundle.js": (PACKAGED, "text/javascript; charset=utf-8"),
    "swagger-ui-standalone-preset.js": (PACKAGED, "text/javascript; charset=utf-8"),
    "favicon-32x32.png": (PACKAGED, "image/png"),
    "index.html": (OWN, "text/html; charset=utf-8"),
    "initializer.js": (OWN, "text/javascript; charset=utf-8"),
}
"""All that is served: a name that is not here is not found, whatever is in it."""
INDEX = "index.html"

_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")


class Swagger(RequestHandler):
    """documents: where they are, as above."""

    def initialize(self, documents: Sequence[str]) -> None:
        self._documents = documents

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")

    def head(self, name: str = "") -> None:
        self.get(name)

    def get(self, name: str = "") -> None:
        urls = [_url(document, self.request.protocol, self.request.host) for document in self._documents]
        self.set_header("Content-Security-Policy", policy(urls))
        if name == "documents.json":
            self.set_header("Content-Type", "application/json")
            self.finish(json.encode([{"url": url, "name": _title(url)} for url in urls]))
            return
        if self.request.path.endswith("/"):  # or the page's relative names would lead nowhere
            self.redirect("../swagger")
            return
        name = name or INDEX
        if name not in FILES:
            self.set_status(404)
            self.set_header("Content-Type", "application/json")
            self.finish(json.encode({"error": 404, "message": NotFound().text}))
            return
        folder, content_type = FILES[name]
        self.set_header("Content-Type", content_type)
        self.finish((folder / name).read_bytes())


def handlers(prefix: str, documents: Sequence[str]) -> list[tuple[Any, ...]]:
    """For `web.Server`. prefix: such as "/api"."""
    options = {"documents": documents}
    return [(f"{prefix}/swagger/?", Swagger, options), (f"{prefix}/swagger/(.+)", Swagger, options)]


def policy(urls: Iterable[str]) -> str:
    """Scripts and data from here alone, and documents and trials from where the documents are."""
    origins = sorted({f"{parts.scheme}://{parts.netloc}" for parts in map(urlsplit, urls) if parts.netloc})
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self' 'unsafe-inline'",  # Swagger UI sets styles on its elements
            "img-src 'self' data:",
            " ".join(("connect-src 'self'", *origins)),
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def _url(document: str, protocol: str, host: str) -> str:
    """The document's URL as the browser needs it; `host` is what the browser called us."""
    if not document.startswith(":"):
        return document
    name = host.rpartition(":")[0] if re.search(r":[0-9]+$", host) else host
    # What is no host name goes into no header.
    return f"{protocol}://{name if _HOST.fullmatch(name) else 'localhost'}{document}"


def _title(url: str) -> str:
    return urlsplit(url).path.removesuffix("/openapi.json")
