//! The data on the control socket, shared by server and client. The shapes are those of `io.synkler.Control.varlink`,
//! with the same names and fields; the core's own types stay without serde. Times are milliseconds since 1970-01-01
//! UTC, sizes are bytes, and nodes are written as mode and name.

use serde::{Deserialize, Serialize};

macro_rules! shapes {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
            pub struct $name {
                $($(#[$field_doc])* pub $field: $kind,)*
            }
        )*

        /// The name of each shape, and its fields with their types as written above.
        #[cfg(test)]
        pub(super) const SHAPES: &[(&str, &[(&str, &str)])] =
            &[$((stringify!($name), &[$((stringify!($field), stringify!($kind)),)*]),)*];
    };
}

shapes! {
    /// Answer to `org.varlink.service.GetInfo`.
    Info {
        /// Who makes it.
        vendor: String,
        /// What it is.
        product: String,
        /// The daemon's version.
        version: String,
        /// Where to read more.
        url: String,
        /// What it serves.
        interfaces: Vec<String>,
    }

    /// The daemon that answers.
    Node {
        /// The mode of the node: `upload`, `central` or `download`.
        mode: String,
        /// The name of the node: config key name.
        name: String,
        /// The group of the node: config key id.
        group: String,
        /// The directory that the node watches, keeps copies in or delivers to: config key file_dir.
        file_dir: String,
        /// The version of its program.
        version: String,
        /// Its process id.
        pid: u32,
        /// When the daemon started.
        started: u64,
    }

    /// The session with the broker.
    Broker {
        /// Whether the session is up.
        connected: bool,
        /// Since when the session is up or down.
        since: u64,
        /// Why the session is down.
        reason: Option<Reason>,
    }

    /// Which node's view of the group an answer is.
    View {
        /// Whether the view is central's and every node that is alive has answered.
        whole: bool,
        /// The node whose view it is: mode and name.
        from: String,
        /// Why the view is not whole.
        why: Option<String>,
        /// Nodes that are alive and did not answer in time.
        silent: Vec<String>,
    }

    /// Why something waits, or what it does.
    Reason {
        /// The stable code.
        code: String,
        /// One line for people.
        text: String,
    }

    /// An operator's order that pauses transfers.
    Paused {
        /// When the operator gave the order.
        since: u64,
        /// The user name of the operator.
        by: String,
        /// The node on which the operator gave the order: mode and name.
        node: String,
    }

    /// How many transfers are in one stage.
    Count {
        /// The stable word of the stage.
        stage: String,
        /// The number of transfers.
        count: u64,
    }

    /// How many transfers, and items that are not yet transfers, are in one state.
    StateCount {
        /// The stable word of the state.
        state: String,
        /// The number of transfers and items.
        count: u64,
    }

    /// Transfers with the same stage, state and reason on one node.
    Tallied {
        /// The stable word of the stage.
        stage: String,
        /// The stable word of the state, derived from that node alone.
        state: String,
        /// The stable code of the reason.
        code: String,
        /// The ids of the transfers.
        ids: Vec<String>,
    }

    /// The progress of the rsync run that carries a transfer.
    Progress {
        /// The node on which rsync runs: mode and name.
        node: String,
        /// Bytes that the run has moved so far.
        bytes: u64,
        /// Bytes of all items in the run.
        total: u64,
        /// Bytes per second.
        rate: u64,
        /// How many transfers the run carries.
        transfers: u64,
    }

    /// Who must give a receipt.
    Receiver {
        /// The name of the download.
        name: String,
        /// When its receipt arrived.
        received: Option<u64>,
    }

    /// One unfinished transfer, or an item that is not yet a transfer.
    Transfer {
        /// The id of the transfer, a UUIDv7.
        id: Option<String>,
        /// The name of the item for display: printable, everything else escaped.
        item: String,
        /// The name of the item without loss: UTF-8, with %, control characters and bytes that are not UTF-8 as % and
        /// two upper-case hex digits.
        item_encoded: String,
        /// The upload that sends the item.
        upload: String,
        /// The kind of the item: `file`, `directory` or `symlink`.
        kind: Option<String>,
        /// The number of files, directories and links in the item.
        entries: Option<u64>,
        /// The size of the item in bytes.
        size: u64,
        /// The MD5 of the item as 32 hex digits: of the bytes of a file, of the manifest of a directory or link.
        md5: Option<String>,
        /// The node that reports this: mode and name.
        node: String,
        /// What happens to the item in the whole group: settling, queued, uploading, verifying, downloading, waiting,
        /// cleaning-up, delivered, paused, blocked, failed or cancelled.
        state: String,
        /// The stage of the transfer on that node.
        stage: String,
        /// Why the transfer waits, or what happens to it.
        reason: Reason,
        /// Since when the transfer has been in this stage.
        since: u64,
        /// When the next attempt starts.
        next: Option<u64>,
        /// Failed attempts in a row.
        attempts: u32,
        /// The order that pauses this transfer alone.
        paused: Option<Paused>,
        /// The rsync run that moves the item, on any node.
        progress: Option<Progress>,
        /// On central: the downloads that must send a receipt.
        receivers: Vec<Receiver>,
        /// How copies differ from the source except in content, in one line, such as modes that a file system does not
        /// keep.
        remark: Option<String>,
    }

    /// The stage of a transfer on one node.
    Step {
        /// The node.
        node: String,
        /// The stage of the transfer there.
        stage: String,
        /// Why the transfer waits there, or what happens to it.
        reason: Option<Reason>,
        /// Since when the transfer has been in this stage.
        since: u64,
        /// When the next attempt starts.
        next: Option<u64>,
        /// Failed attempts in a row.
        attempts: u32,
        /// The MD5 that this node computed of its own copy.
        md5: Option<String>,
        /// When this node first knew the transfer.
        created: u64,
        /// When rsync began to move the item from this node (upload) or to it.
        began: Option<u64>,
        /// When the item was moved and verified.
        arrived: Option<u64>,
        /// When the transfer was finished on this node.
        finished: Option<u64>,
        /// The order that pauses the transfer there.
        paused: Option<Paused>,
        /// The rsync run that moves the item.
        progress: Option<Progress>,
        /// How the copy of this node differs from the source except in content, in one line.
        remark: Option<String>,
    }

    /// One transfer on all nodes.
    Journey {
        /// The transfer as the group sees it; a finished one as it ended.
        transfer: Transfer,
        /// Its stage on each node that knows it: upload, central, then the downloads.
        steps: Vec<Step>,
    }

    /// A node of the group, as known to the node whose view it is.
    Member {
        /// The mode of the node: `upload`, `central` or `download`.
        mode: String,
        /// The name of the node.
        name: String,
        /// The version of its program.
        version: String,
        /// The host on which the node runs; empty if an older version does not report it.
        host: String,
        /// When its first message arrived.
        first_heard: u64,
        /// When its last message arrived.
        heard: u64,
        /// Whether a message from the node arrived within the last few minutes.
        alive: bool,
        /// The order that pauses the whole node.
        paused: Option<Paused>,
        /// Free bytes on the file system of its directory.
        free: Option<u64>,
        /// Free inodes there.
        free_inodes: Option<u64>,
        /// What the node does, in one line.
        doing: String,
        /// By how many milliseconds its clock is ahead of the clock of the node whose view it is.
        clock_ahead: Option<i64>,
        /// The lowest and the highest version of the protocol between nodes that the node supports.
        protocols: Option<Vec<u64>>,
        /// If the node has no protocol version in common with the node whose view it is: too-old or too-new, and what
        /// to do.
        apart: Option<Reason>,
    }

    /// The group at one moment, as one node reports it.
    Status {
        /// The time of this status, by the clock of the answering node.
        now: u64,
        /// The daemon that answers.
        node: Node,
        /// Its session with the broker.
        broker: Broker,
        /// Why this node does nothing in `file_dir`: another directory is there, or none.
        directory: Option<Reason>,
        /// Which node's view of the group the other fields are.
        view: View,
        /// The order that pauses the whole group.
        group_paused: Option<Paused>,
        /// The nodes of the group, also the answering one: uploads, centrals, downloads.
        members: Vec<Member>,
        /// The number of unfinished transfers and of items that are not yet transfers.
        total: u64,
        /// The number of transfers in each stage, also of delivered ones.
        counts: Vec<Count>,
        /// The number of transfers in each state.
        states: Vec<StateCount>,
        /// The number of transfers that fail or need a person: as many as List finds with failed.
        attention: u64,
        /// The ids of these transfers, at most 4000.
        urgent: Vec<String>,
        /// The number of items in each state that are not yet transfers.
        unsent: Vec<StateCount>,
        /// The stages of transfers on this node.
        tallied: Vec<Tallied>,
        /// Unfinished transfers: first those that need attention, then the running ones, then the rest, oldest first.
        transfers: Vec<Transfer>,
    }

    /// A finished transfer, from the journal of one node.
    Past {
        /// The id of the transfer.
        id: String,
        /// The name of the item for display.
        item: String,
        /// The name of the item without loss.
        item_encoded: String,
        /// The upload that sent the item.
        upload: String,
        /// The kind of the item: `file`, `directory` or `symlink`.
        kind: String,
        /// The number of files, directories and links in the item.
        entries: u64,
        /// The size of the item in bytes.
        size: u64,
        /// The MD5 of the item.
        md5: String,
        /// How the transfer ended: closed if the item was handed over, withdrawn if the transfer was cancelled.
        stage: String,
        /// When this node first knew the transfer.
        created: u64,
        /// When rsync began to move the item on this node.
        began: Option<u64>,
        /// When the item was moved and verified.
        arrived: Option<u64>,
        /// When the transfer was finished.
        finished: u64,
        /// Bytes per second between began and arrived.
        rate: Option<u64>,
        /// On central: the downloads that sent a receipt, and when.
        receivers: Vec<Receiver>,
        /// How copies differ from the source except in content, in one line, such as modes that a file system does not
        /// keep.
        remark: Option<String>,
    }

    /// What one node did about an order.
    Deed {
        /// The node.
        node: String,
        /// The name of the item for display.
        item: Option<String>,
        /// Whether the node carried out the order.
        done: bool,
        /// What the node did, in one line.
        text: String,
    }

    /// The result of one check.
    Finding {
        /// The name of the check, a stable word.
        check: String,
        /// The result: `ok`, `warning`, `failed` or `skipped`.
        result: String,
        /// What the check found, in one line.
        text: String,
        /// How to fix the problem.
        cure: Option<String>,
    }

    /// What a path means to a node.
    Explanation {
        /// The path, printable.
        path: String,
        /// What is there: a stable word.
        verdict: String,
        /// The same for people, in one line.
        text: String,
        /// Names and ids under which a transfer may know it, the most likely first.
        items: Vec<String>,
    }

    /// Answer to `Explain`.
    Explain {
        /// What the path means.
        explanation: Explanation,
    }

    /// Answer to `GetStatus`.
    GetStatus {
        /// The group.
        status: Status,
    }

    /// Answer to `List`.
    List {
        /// Whose view it is.
        view: View,
        /// At most as many as requested, oldest first.
        transfers: Vec<Transfer>,
        /// How many match in all.
        total: u64,
        /// Whether others follow.
        more: bool,
    }

    /// Answer to `GetTransfer`.
    GetTransfer {
        /// Whose view it is.
        view: View,
        /// The transfer on all nodes.
        journey: Journey,
    }

    /// One of the answers to `Monitor`.
    Monitor {
        /// Whether this is the full list, not only the changes.
        full: bool,
        /// The status; its transfers are those that are new or have changed.
        status: Status,
        /// The transfers that left the list: ids, or upload, slash and encoded name.
        gone: Vec<String>,
    }

    /// Answer to every order.
    Orders {
        /// What each node did.
        deeds: Vec<Deed>,
        /// Nodes that are alive and did not answer in time.
        silent: Vec<String>,
    }

    /// Answer to `GetHistory`.
    GetHistory {
        /// The latest first.
        entries: Vec<Past>,
        /// Whether older ones follow.
        more: bool,
    }

    /// Answer to `GetReceipt`.
    GetReceipt {
        /// The transfer's id.
        id: String,
        /// The item's name, printable.
        item: String,
        /// The input for `md5sum -c`; [`GetReceipt::bytes`] undoes the encoding.
        lines: String,
        /// Whether names in the lines contain bytes that are not UTF-8, so that the lines are encoded.
        encoded: bool,
        /// How copies differ from the source except in content, one line for people.
        remark: Option<String>,
    }

    /// Answer to `GetManifest`.
    GetManifest {
        /// Lines of the manifest.
        text: String,
        /// Whether more follow.
        more: bool,
    }

    /// Answer to `SetLogLevel`.
    SetLogLevel {
        /// The previous level.
        previous: String,
    }

    /// Answer to `Reload`.
    Reload {
        /// The keys whose new value is now in force.
        changed: Vec<String>,
        /// The keys whose new value needs a restart.
        restart: Vec<String>,
    }

    /// Answer to `Check`.
    Check {
        /// In the order of the checks.
        findings: Vec<Finding>,
    }
}

/// What `GetStatus` and `Monitor` show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The maximum number of transfers; without it, the daemon decides.
    pub limit: Option<u64>,
    /// Only what the answering node knows, without asking other nodes.
    pub here: bool,
    /// Also delivered transfers.
    pub all: bool,
}

/// Which transfers `List` shows; a field that is not set does not restrict the list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Filter {
    /// Those in this state.
    pub state: Option<String>,
    /// Those from this upload.
    pub upload: Option<String>,
    /// Those that fail or need a person.
    pub failed: Option<bool>,
    /// Also delivered transfers.
    pub all: Option<bool>,
    /// At most this many.
    pub limit: Option<u64>,
    /// Those after the transfer with this id.
    pub after: Option<String>,
    /// Only what the answering node knows, without asking other nodes.
    pub here: Option<bool>,
}

/// Which finished transfers `GetHistory` shows; a field that is not set does not restrict the list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PastFilter {
    /// Those that finished since that time.
    pub since: Option<u64>,
    /// Those of items with that name.
    pub item: Option<String>,
    /// At most this many.
    pub limit: Option<u64>,
    /// Those that finished before that time.
    pub before: Option<u64>,
    /// With `before`: also those that finished at exactly that time, with a smaller id than this.
    pub behind: Option<String>,
}

#[cfg(test)]
mod tests;
