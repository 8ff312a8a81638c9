"""`make docs`: docs/settings.md from the settings themselves."""

import importlib
import sys
from pathlib import Path

from deploy.options import ROOT, Options
from skep import settings

PACKAGES = ("frontend", "backend", "auth", "plugin_manager", "ws_kafka_proxy", "mqtt_bridge")
TARGET = ROOT / "docs" / "settings.md"


def text() -> str:
    """The page."""
    parts = [
        "# Settings\n\nWritten by `make docs` from the settings; `python -m SERVICE --help` prints the same tables.\n",
        f"## `make run` (`python -m deploy.local`)\n\n```\n{settings.table(Options)}\n```\n",
    ]
    for package in PACKAGES:
        if (ROOT / package / "settings.py").exists():
            described = importlib.import_module(f"{package}.settings").Settings
            parts.append(f"## `{package}`\n\n```\n{settings.table(described)}\n```\n")
    return "\n".join(parts)


def main(target: Path = TARGET) -> int:
    target.write_text(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
