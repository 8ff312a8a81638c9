"""`make docs`: the pages that are made from the code: settings, errors, the WebSocket API."""

import importlib
import sys

from deploy import error_page, websocket_page
from deploy.options import ROOT, Options
from skep import settings

PACKAGES = ("frontend", "backend", "auth", "plugin_manager", "ws_kafka_proxy", "mqtt_bridge")
FOLDER = ROOT / "docs"


def settings_page() -> str:
    parts = [
        "# Settings\n\nWritten by `make docs` from the settings; `python -m SERVICE --help` prints the same tables.\n",
        f"## `make run` (`python -m deploy.local`)\n\n```\n{settings.table(Options)}\n```\n",
    ]
    for package in PACKAGES:
        if (ROOT / package / "settings.py").exists():
            described = importlib.import_module(f"{package}.settings").Settings
            parts.append(f"## `{package}`\n\n```\n{settings.table(described)}\n```\n")
    return "\n".join(parts)


PAGES = {
    "settings.md": settings_page,
    "errors.md": error_page.text,
    "protocols/websocket.md": websocket_page.text,
}


def main() -> int:
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
