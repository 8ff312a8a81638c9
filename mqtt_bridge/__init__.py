"""Joins an MQTT broker to the bus. An empty room until its own issue."""
