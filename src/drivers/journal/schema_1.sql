-- Moments are milliseconds since 1970-01-01 UTC. Numbers without a sign of 64 bits (moments, sizes, inodes)
-- are stored as the signed number of the same bits, so 2^63 and above show as negative numbers.

CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    journal TEXT NOT NULL,          -- this journal's identity: 8 hex digits
    group_id TEXT NOT NULL,         -- whose journal it is: config keys id, mode, name
    mode TEXT NOT NULL,
    name TEXT NOT NULL,
    next_place INTEGER NOT NULL,    -- central: the number of the next place
    paused INTEGER NOT NULL         -- an operator has paused this node
) STRICT;

CREATE TABLE transfers (
    id TEXT PRIMARY KEY NOT NULL,   -- UUIDv7, minted by upload
    name BLOB NOT NULL,             -- the item's name, byte for byte
    shown TEXT NOT NULL,            -- the name escaped, for people; not read back
    upload TEXT NOT NULL,
    kind TEXT NOT NULL,             -- file, directory, symlink
    size INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    digest TEXT NOT NULL,           -- MD5, 32 hex digits
    stage TEXT NOT NULL,
    created INTEGER NOT NULL,
    since INTEGER NOT NULL,         -- when it entered its stage
    reason TEXT,                    -- why it waits: code and detail
    detail TEXT,
    attempts INTEGER NOT NULL,
    central TEXT,
    place TEXT,
    location_host TEXT,
    location_path TEXT,
    signature TEXT,                 -- 32 hex digits
    inode INTEGER,
    receivers TEXT NOT NULL,        -- JSON: [[name, moment of the receipt or null], ...]
    acknowledged INTEGER NOT NULL,
    cleaned INTEGER NOT NULL,
    finished INTEGER                -- when it was over; null while it is not
) STRICT;

CREATE INDEX transfers_unfinished ON transfers (created, id) WHERE finished IS NULL;
CREATE INDEX transfers_finished ON transfers (finished, id) WHERE finished IS NOT NULL;
CREATE INDEX transfers_placed ON transfers (name, created, id) WHERE signature IS NOT NULL;

CREATE TABLE nodes (
    mode TEXT NOT NULL,
    name TEXT NOT NULL,
    journal TEXT NOT NULL,
    started INTEGER NOT NULL,
    slots INTEGER NOT NULL,
    version TEXT NOT NULL,
    first_heard INTEGER NOT NULL,
    last_heard INTEGER NOT NULL,
    PRIMARY KEY (mode, name)
) STRICT;

CREATE TABLE kept (
    name BLOB PRIMARY KEY NOT NULL,
    shown TEXT NOT NULL,
    signature TEXT NOT NULL,
    size INTEGER NOT NULL,
    digest TEXT NOT NULL
) STRICT;
