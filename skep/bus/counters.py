"""Counters of one bus client, for `/metrics`."""

from __future__ import annotations

from msgspec import Struct


class Counters(Struct):
    published: int = 0
    """Records accepted for publishing."""
    confirmed: int = 0
    refused: int = 0
    timed_out: int = 0
    resent: int = 0
    received: int = 0
    """Records handed to subscriptions."""
    repeated: int = 0
    """Records dropped because they came before."""
    calls: int = 0
    replies: int = 0
    unknown_replies: int = 0
    """Answers to calls that had ended, or never were."""
    connects: int = 0
    gaps: int = 0
