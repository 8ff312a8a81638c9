"""Plugins: port 8110, `/plugin/rest`; answers `plugin.requests` of frontends and plugin proxies from the same core.

Topics: in `plugin.requests`, `metadata-changes`; out `replies.*`, `auth.requests`, `requests` (markers), and the
outbox's `metadata-changes` and `subscriptions`. Makes and deletes `plugin_topic_<uuid>.<n>`.
"""
