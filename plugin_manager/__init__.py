"""Registers plugins: a filter, a topic, tokens. Port 8110. An empty room until its own issue."""
