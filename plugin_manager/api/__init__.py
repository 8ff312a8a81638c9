"""The edges of plugin_manager: REST, and calls on the bus."""
