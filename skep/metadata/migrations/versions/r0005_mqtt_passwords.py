"""MQTT passwords: what they are made of, beside the platform's secret."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE mqtt_passwords (
    user_id BIGINT NOT NULL,
    client_id VARCHAR(128) COLLATE "C" NOT NULL,
    salt BYTEA NOT NULL,
    key VARCHAR(16) NOT NULL,
    made_at BIGINT NOT NULL,
    CONSTRAINT pk_mqtt_passwords PRIMARY KEY (user_id),
    CONSTRAINT uq_mqtt_passwords_client_id UNIQUE (client_id),
    CONSTRAINT fk_mqtt_passwords_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
)
"""


def upgrade() -> None:
    op.execute(TABLE)


def downgrade() -> None:
    op.execute("DROP TABLE mqtt_passwords")
