"""MQTT: clients bound to their users, packets under way, leases."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SCRIPT = """
CREATE TABLE mqtt_clients (
    client_id VARCHAR(128) COLLATE "C" NOT NULL,
    user_id BIGINT NOT NULL,
    claims TEXT,
    seen_at BIGINT NOT NULL,
    CONSTRAINT pk_mqtt_clients PRIMARY KEY (client_id),
    CONSTRAINT fk_mqtt_clients_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE INDEX ix_mqtt_clients_user_id ON mqtt_clients (user_id);
CREATE TABLE mqtt_packets (
    session VARCHAR(128) COLLATE "C" NOT NULL,
    packet_id INTEGER NOT NULL,
    id BIGINT NOT NULL,
    digest BIGINT NOT NULL,
    number BIGINT NOT NULL,
    CONSTRAINT pk_mqtt_packets PRIMARY KEY (session, packet_id)
);
CREATE TABLE leases (
    name VARCHAR(128) COLLATE "C" NOT NULL,
    holder VARCHAR(256) COLLATE "C" NOT NULL,
    until TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_leases PRIMARY KEY (name)
);
"""


def upgrade() -> None:
    for statement in filter(str.strip, SCRIPT.split(";")):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE mqtt_clients, mqtt_packets, leases")
