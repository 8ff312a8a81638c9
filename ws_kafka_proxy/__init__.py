"""The bus: WebSocket in front, Kafka or a PostgreSQL log behind.

Ports: 3000 for services (binary dialect with a service token; JSON dialect for tools), 3001 for plugins (JSON
dialect with a plugin token; a process of its own, role "plugin"). Topics: all of them (`skep/wire/topics.py`).
"""
