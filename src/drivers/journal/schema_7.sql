-- What the entries of an item have beside content and modes.
ALTER TABLE transfers ADD COLUMN extras TEXT NOT NULL DEFAULT '';
