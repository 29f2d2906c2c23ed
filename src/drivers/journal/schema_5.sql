-- The directory that file_dir is: what its marker says (hexadecimal), its file system's id and its inode. Null until this
-- node has taken one for its own.
ALTER TABLE meta ADD COLUMN directory_token TEXT;
ALTER TABLE meta ADD COLUMN directory_file_system INTEGER;
ALTER TABLE meta ADD COLUMN directory_inode INTEGER;
