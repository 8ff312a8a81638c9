"""Indexes for the lists of devices: each has all that a list filters by, so that only the rows of a page are read."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

INDEXES = {
    "ix_devices_name_id": ("name, id", "network_id, device_type_id"),
    "ix_devices_network_id_id": ("network_id, id", "device_type_id, name"),
    "ix_devices_device_type_id_id": ("device_type_id, id", "network_id, name"),
    "ix_devices_is_blocked_id": ("is_blocked, id", "network_id, device_type_id, name"),
}
PRIMARY_KEY = "ALTER TABLE devices DROP CONSTRAINT pk_devices, ADD CONSTRAINT pk_devices PRIMARY KEY (id)"


def upgrade() -> None:
    op.execute(f"{PRIMARY_KEY} INCLUDE (network_id, device_type_id, name)")
    for name, (key, more) in INDEXES.items():
        op.execute(f"DROP INDEX IF EXISTS {name}")
        op.execute(f"CREATE INDEX {name} ON devices ({key}) INCLUDE ({more})")


def downgrade() -> None:
    op.execute(PRIMARY_KEY)
    for name, (key, _) in INDEXES.items():
        op.execute(f"DROP INDEX {name}")
        if name != "ix_devices_is_blocked_id":
            op.execute(f"CREATE INDEX {name} ON devices ({key})")
