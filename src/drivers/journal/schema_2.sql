-- Orders of operators: since when, who gave them, and on which node ("upload alpha"); all three null without one.

ALTER TABLE meta ADD COLUMN paused_since INTEGER;
ALTER TABLE meta ADD COLUMN paused_by TEXT;
ALTER TABLE meta ADD COLUMN paused_on TEXT;
UPDATE meta SET paused_since = 0, paused_by = 'unknown', paused_on = mode || ' ' || name WHERE paused = 1;
ALTER TABLE meta DROP COLUMN paused;

-- The youngest order about the whole group: when it was set, whether what runs is stopped, and the order itself.
ALTER TABLE meta ADD COLUMN group_changed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE meta ADD COLUMN group_stop INTEGER NOT NULL DEFAULT 0;
ALTER TABLE meta ADD COLUMN group_since INTEGER;
ALTER TABLE meta ADD COLUMN group_by TEXT;
ALTER TABLE meta ADD COLUMN group_on TEXT;

ALTER TABLE transfers ADD COLUMN began INTEGER;         -- when its bytes began to move from or to here
ALTER TABLE transfers ADD COLUMN arrived INTEGER;       -- when they had moved and were proven
ALTER TABLE transfers ADD COLUMN paused_since INTEGER;  -- the order that holds it alone
ALTER TABLE transfers ADD COLUMN paused_by TEXT;
ALTER TABLE transfers ADD COLUMN paused_on TEXT;

CREATE INDEX transfers_past ON transfers (shown, finished, id) WHERE finished IS NOT NULL;

ALTER TABLE nodes ADD COLUMN host TEXT NOT NULL DEFAULT '';
ALTER TABLE nodes ADD COLUMN spool_host TEXT;           -- central: where its in/ and held/ are
ALTER TABLE nodes ADD COLUMN spool_path TEXT;

-- What the digest of a directory is the digest of; it goes when its transfer leaves the history.
CREATE TABLE manifests (
    id TEXT PRIMARY KEY NOT NULL,
    text TEXT NOT NULL
) STRICT;
