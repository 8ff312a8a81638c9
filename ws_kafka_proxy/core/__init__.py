"""Rules and session state machines of the proxy; no I/O."""
