-- Upload: items that an operator has submitted and that no transfer carries yet.
CREATE TABLE submitted (
    name BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;
