"""The edge for apps and devices: REST and WebSocket below one port (8080), tokens, rights, JSON, subscribers.

Bus: publishes to `requests`, `queries`, `auth.requests`, `subscriptions`; reads its own `replies.<run>` and
`events.<run>`, and `metadata-changes`.
"""
