"""What to do about an engine or tool that can't be had."""

import os
from typing import NoReturn

import pytest

NOT_TESTED: dict[str, str] = {}
"""What was left out and why; the last lines of the run say so."""


def missing(what: str, reason: str) -> NoReturn:
    """Fail with CI=true, where everything must be there; else skip."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}: {reason}", pytrace=False)
    NOT_TESTED[what] = reason
    pytest.skip(f"{what}: {reason}")
