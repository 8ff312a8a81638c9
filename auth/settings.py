"""Settings of the auth service."""

from __future__ import annotations

import os
from dataclasses import dataclass

from skep import settings
from skep.settings import field


@dataclass(frozen=True)
class Settings(settings.Edge):
    port: int = field("AUTH_PORT", 8090, "port of REST")
    prefix: str = field("AUTH_PREFIX", "/auth", "context path; REST is below it at /rest")
    access_life: int = field("ACCESS_TOKEN_LIFE", 1_800, "seconds an access token is good for", minimum=1)
    refresh_life: int = field(
        "REFRESH_TOKEN_LIFE", 15_724_800, "seconds a refresh token is good for; clients can't ask for more", minimum=1
    )
    hash_threads: int = field(
        "HASH_THREADS", os.cpu_count() or 1, "passwords checked at a time, 64 MiB each; at most one per core", minimum=1
    )
    login_failures: int = field(
        "LOGIN_FAILURES", 10, "failed logins a minute for one login from one address before 429", minimum=1
    )
    address_failures: int = field(
        "ADDRESS_FAILURES", 50, "failed logins a minute from one address before 429", minimum=1
    )
