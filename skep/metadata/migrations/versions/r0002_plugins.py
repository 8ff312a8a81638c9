"""Plugins: what they want, what is collected for them, their streams and their open sockets; tombstones."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SCRIPT = """
ALTER TABLE outbox ALTER COLUMN payload DROP NOT NULL;
ALTER TABLE plugins ALTER COLUMN filter TYPE TEXT;
ALTER TABLE plugins DROP COLUMN subscription_id;
ALTER TABLE plugins ADD COLUMN wanted TEXT DEFAULT '{}' NOT NULL;
ALTER TABLE plugins ADD COLUMN retention BIGINT DEFAULT 3600000 NOT NULL;
ALTER TABLE plugins ADD COLUMN enabled BOOLEAN DEFAULT true NOT NULL;
ALTER TABLE plugins ADD COLUMN stream BIGINT DEFAULT 1 NOT NULL;
ALTER TABLE plugins ADD COLUMN last_contact BIGINT;
ALTER TABLE plugins ADD COLUMN collecting BOOLEAN DEFAULT false NOT NULL;
ALTER TABLE plugins ADD COLUMN interests BYTEA DEFAULT '\\x90' NOT NULL;
CREATE TABLE plugin_streams (
    topic_name VARCHAR(128) COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    made_at BIGINT NOT NULL,
    doomed BOOLEAN DEFAULT false NOT NULL,
    CONSTRAINT pk_plugin_streams PRIMARY KEY (topic_name, number)
);
CREATE TABLE plugin_proxies (
    run VARCHAR(256) COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    lease BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    CONSTRAINT pk_plugin_proxies PRIMARY KEY (run)
);
CREATE TABLE plugin_sockets (
    run VARCHAR(256) COLLATE "C" NOT NULL,
    id BIGINT NOT NULL,
    plugin_id BIGINT NOT NULL,
    suffix VARCHAR(64) COLLATE "C",
    slot SMALLINT,
    address VARCHAR(64) COLLATE "C" NOT NULL,
    since BIGINT NOT NULL,
    asked_at BIGINT NOT NULL,
    CONSTRAINT pk_plugin_sockets PRIMARY KEY (run, id),
    CONSTRAINT uq_plugin_sockets_plugin_id_slot UNIQUE (plugin_id, slot),
    CONSTRAINT fk_plugin_sockets_run FOREIGN KEY(run) REFERENCES plugin_proxies (run) ON DELETE CASCADE,
    CONSTRAINT fk_plugin_sockets_plugin_id FOREIGN KEY(plugin_id) REFERENCES plugins (id) ON DELETE CASCADE
);
CREATE TABLE plugin_groups (
    plugin_id BIGINT NOT NULL,
    name VARCHAR(80) COLLATE "C" NOT NULL,
    stream BIGINT NOT NULL,
    is_first BOOLEAN NOT NULL,
    used_at BIGINT NOT NULL,
    CONSTRAINT pk_plugin_groups PRIMARY KEY (plugin_id, name),
    CONSTRAINT fk_plugin_groups_plugin_id FOREIGN KEY(plugin_id) REFERENCES plugins (id) ON DELETE CASCADE
);
CREATE TABLE plugin_attendance (
    id SMALLINT NOT NULL,
    listening_since BIGINT NOT NULL,
    heard_at BIGINT NOT NULL,
    incarnation VARCHAR(64) NOT NULL,
    CONSTRAINT pk_plugin_attendance PRIMARY KEY (id)
);
INSERT INTO plugin_attendance (id, listening_since, heard_at, incarnation) VALUES (1, 0, 0, '');
"""


def upgrade() -> None:
    for statement in filter(str.strip, SCRIPT.split(";")):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE plugin_attendance, plugin_groups, plugin_sockets, plugin_proxies, plugin_streams")
    for column in ("interests", "collecting", "last_contact", "stream", "enabled", "retention", "wanted"):
        op.execute(f"ALTER TABLE plugins DROP COLUMN {column}")
    op.execute("ALTER TABLE plugins ADD COLUMN subscription_id BIGINT")
    op.execute("ALTER TABLE plugins ALTER COLUMN filter TYPE VARCHAR(256)")
    op.execute("DELETE FROM outbox WHERE payload IS NULL")
    op.execute("ALTER TABLE outbox ALTER COLUMN payload SET NOT NULL")
