"""The schema: bytes to structs and back. No I/O, no clock, no settings."""
