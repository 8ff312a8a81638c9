"""Joins an MQTT broker to the bus: `dh/request`, `dh/insert/…` in, messages and answers out; the broker's hooks.

Port: MQTT_HOOKS_PORT (8120), for the broker's questions. Topics: publishes `requests`, `api.requests`,
`auth.requests`, `subscriptions`; reads `mqtt.out`, `metadata-changes`.
"""
