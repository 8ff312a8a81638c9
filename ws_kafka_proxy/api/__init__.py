"""The WebSocket edge: listener, service dialect, JSON dialect."""
