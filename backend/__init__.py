"""Stores notifications and commands, matches them with interests, answers queries. Listens on nothing.

Topics in: `requests` (group "backend"), `subscriptions` (broadcast), `queries`.
Topics out: `replies.*`, `events.*`, `plugin_topic_*`, `mqtt.out`, `dead-letters`, `subscriptions` (tombstones).
"""
