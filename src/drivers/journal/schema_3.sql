-- Upload: the paths in a source at which another file system began, as JSON texts.
ALTER TABLE transfers ADD COLUMN mounts TEXT NOT NULL DEFAULT '[]';
ALTER TABLE kept ADD COLUMN mounts TEXT NOT NULL DEFAULT '[]';

-- What a cleanup script has left under the name, if it is not what was handed over: read (size and digest) or not yet
-- (both null), and why it is put aside.
ALTER TABLE kept ADD COLUMN is_left INTEGER NOT NULL DEFAULT 0;
ALTER TABLE kept ADD COLUMN left_size INTEGER;
ALTER TABLE kept ADD COLUMN left_digest TEXT;
ALTER TABLE kept ADD COLUMN aside TEXT;

-- When its upload made the transfer: of two contents of one name, the one with the greater is the later.
ALTER TABLE transfers ADD COLUMN minted INTEGER NOT NULL DEFAULT 0;

-- Upload: when the source's inode was made.
ALTER TABLE transfers ADD COLUMN born INTEGER;
