"""Logins and tokens: port 8090, `/auth/rest`; answers `auth.requests` of the frontend from the same core.

Topics: in `auth.requests`, `metadata-changes`; out `replies.*`, and the outbox's `metadata-changes`.
"""
