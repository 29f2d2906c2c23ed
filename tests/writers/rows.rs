//! Who writes into an upload's `file_dir`, and what each needs: the rows of the table in README. `make writers` runs each
//! of them; `tests/docs.rs` compares the table with them.

#![allow(dead_code, reason = "the test of the documents uses the table, the test of the writers the rest")]

/// The config of an upload for one kind of writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Line {
    /// The default of this key does it.
    Default(&'static str),
    /// A line of the config.
    Set(&'static str),
}

impl Line {
    /// What stands in the config file.
    pub fn config(self) -> String {
        match self {
            Self::Default(_) => String::new(),
            Self::Set(line) => format!("{line}\n"),
        }
    }

    fn shown(self) -> String {
        match self {
            Self::Default(key) => format!("the default of `{key}`"),
            Self::Set(line) => format!("`{line}`"),
        }
    }
}

/// One kind of writer.
pub struct Row {
    /// Its name in the test.
    pub key: &'static str,
    /// Its name in the table.
    pub who: &'static str,
    pub line: Line,
    /// What the writer does, and what is sent.
    pub does: &'static str,
}

const IGNORE: Line = Line::Default("ignore");
const SETTLE: Line = Line::Default("settle_seconds");

/// In the order of the table.
pub const ROWS: &[Row] = &[
    Row {
        key: "ftp",
        who: "an FTP server (vsftpd)",
        line: IGNORE,
        does: "The client uploads `NAME.part` and renames it: `curl -T NAME ftp://HOST/NAME.part -Q '-RNFR NAME.part' -Q '-RNTO NAME'`",
    },
    Row {
        key: "smb",
        who: "an SMB share (smbd)",
        line: IGNORE,
        does: "The client writes `NAME.part` and renames it: `smbclient -c 'put NAME NAME.part; rename NAME.part NAME'`",
    },
    Row {
        key: "sftp",
        who: "sftp",
        line: IGNORE,
        does: "The client uploads `NAME.part` and renames it: `put NAME NAME.part`, then `rename NAME.part NAME`",
    },
    Row { key: "wget", who: "`wget -c`", line: IGNORE, does: "`wget -c -O NAME.part URL && mv NAME.part NAME`" },
    Row {
        key: "cp",
        who: "`cp -r`",
        line: IGNORE,
        does: "`cp -r DIR /srv/outgoing/DIR.part && mv -T /srv/outgoing/DIR.part /srv/outgoing/DIR`",
    },
    Row {
        key: "rsync-tree",
        who: "rsync of a directory",
        line: IGNORE,
        does: "As with `cp -r`: `rsync -a DIR/ /srv/outgoing/DIR.part/`, then `mv -T`",
    },
    Row {
        key: "rsync-file",
        who: "rsync of files",
        line: IGNORE,
        does: "Nothing: rsync writes `.NAME.XXXXXX` and renames it. With `--partial`, also set `--partial-dir=.partial`, and never use \
               `--inplace` or `--append`",
    },
    Row {
        key: "tar",
        who: "`tar x`",
        line: IGNORE,
        does: "`mkdir DIR.part && tar xf DIR.tar -C DIR.part && mv -T DIR.part DIR`",
    },
    Row {
        key: "unzip",
        who: "`unzip`",
        line: IGNORE,
        does: "`unzip -d DIR.part DIR.zip && mv -T DIR.part DIR`. After an interrupted run, `DIR.part` stays and is not sent",
    },
    Row {
        key: "torrent",
        who: "a torrent client",
        line: IGNORE,
        does: "Set the client to append `.part` or `.!qB` to unfinished files and to create all files of a torrent at its start. \
               A directory waits until none is left",
    },
    Row {
        key: "open",
        who: "a program that keeps the file open until it is complete, in any order of writing",
        line: SETTLE,
        does: "Nothing. An open file is not sent, however long the program pauses",
    },
    Row {
        key: "mmap",
        who: "a program that writes through `mmap`",
        line: SETTLE,
        does: "Nothing. A file with a writable mapping is not sent, even after its descriptor is closed",
    },
    Row {
        key: "truncate",
        who: "a program that truncates the file and writes it again (`>file`)",
        line: SETTLE,
        does: "It keeps the file open from the truncation to the last byte. Each complete version may be sent",
    },
    Row {
        key: "editor",
        who: "an editor, `sed -i`",
        line: Line::Set("ignore = [\"*~\", \"4913\", \"sed??????\", \"*.tmp\", \"*.part\"]"),
        does: "It writes a new file and renames it over the old one, or keeps the file open. Each save may be sent",
    },
    Row {
        key: "rotated",
        who: "a log that is rotated",
        line: Line::Set("only = [\"*.log-*\"]"),
        does: "logrotate with `dateext`, without `compress` and `copytruncate`. Only rotated files are sent, when the program has closed them",
    },
    Row {
        key: "logger",
        who: "a program that opens the file again for each append, such as every 7 s",
        line: Line::Set("settle_seconds = 15"),
        does: "At least twice the longest pause. After a longer pause the file is sent as it is then, and again after each later append",
    },
    Row {
        key: "marker",
        who: "a program that creates a marker when it is done",
        line: Line::Set("ready = \"marker\""),
        does: "It writes `NAME` in any way, and creates `NAME.done` last. Without a marker, nothing is sent",
    },
    Row {
        key: "submit",
        who: "a program that runs a command when it is done",
        line: Line::Set("ready = \"submit\""),
        does: "It writes `NAME` in any way, and then runs `synklerctl submit /srv/outgoing/NAME`. Nothing else is sent",
    },
];

const HEAD: &str = "| who writes there | config of the upload | what the writer does |\n|---|---|---|\n";

/// The table as README has it.
pub fn table() -> String {
    let row = |row: &Row| format!("| {} | {} | {} |\n", row.who, row.line.shown(), row.does);
    HEAD.to_owned() + &ROWS.iter().map(row).collect::<String>()
}
