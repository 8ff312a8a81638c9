"""The edges of auth: REST, and calls on the bus."""
