"""Outbound edge: what the bus brings to this process."""
