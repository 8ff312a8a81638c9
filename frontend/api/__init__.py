"""Inbound edge: REST routes and the WebSocket listener."""
