ALTER TABLE transfers ADD COLUMN modes TEXT NOT NULL DEFAULT '';   -- of its entries, as announced
ALTER TABLE transfers ADD COLUMN wrong TEXT;                       -- digest of the last copy that was not what was announced
ALTER TABLE transfers ADD COLUMN remark TEXT;                      -- how copies differ from the source other than in content

-- Manifests hold no modes any more: those from before cannot be read as one.
DELETE FROM manifests;
