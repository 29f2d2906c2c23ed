//! What goes over the control socket, shared by server and client. The shapes are those of
//! `io.synkler.Control.varlink`, by the same names and field by field; the core's own types stay without serde.
//! Moments are milliseconds since 1970-01-01 UTC, sizes are bytes, and nodes are written as mode and name.

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

        /// Each shape's name, and its fields with their types as they are written above.
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
        /// `upload`, `central` or `download`.
        mode: String,
        /// What it is called.
        name: String,
        /// The group it belongs to.
        group: String,
        /// The directory it watches, keeps copies in or delivers to.
        file_dir: String,
        /// The version of its program.
        version: String,
        /// Its process id.
        pid: u32,
        /// When it started.
        started: u64,
    }

    /// The session with the broker.
    Broker {
        /// Whether it is up.
        connected: bool,
        /// Since when it is up or down.
        since: u64,
        /// Why it is down.
        reason: Option<Reason>,
    }

    /// Whose view of the group an answer is.
    View {
        /// Whether it is central's, with the word of every node that is alive.
        whole: bool,
        /// Whose view it is.
        from: String,
        /// Why it is not whole.
        why: Option<String>,
        /// Nodes that are alive and did not answer in time.
        silent: Vec<String>,
    }

    /// Why something waits, or what it does.
    Reason {
        /// The stable word.
        code: String,
        /// One line for people.
        text: String,
    }

    /// An operator's order that nothing new is to start.
    Paused {
        /// When it was given.
        since: u64,
        /// Who gave it.
        by: String,
        /// On which node.
        node: String,
    }

    /// How many transfers are in one stage.
    Count {
        /// The stage's stable word.
        stage: String,
        /// How many.
        count: u64,
    }

    /// How many transfers are in one state.
    StateCount {
        /// The state's stable word.
        state: String,
        /// How many.
        count: u64,
    }

    /// Transfers that stand on one node alike.
    Tallied {
        /// The stage's stable word.
        stage: String,
        /// The state's stable word, as that node alone sees it.
        state: String,
        /// The reason's stable word.
        code: String,
        /// Their ids.
        ids: Vec<String>,
    }

    /// How far the rsync run that carries a transfer is.
    Progress {
        /// The node that runs it.
        node: String,
        /// Bytes moved so far.
        bytes: u64,
        /// Bytes of all items in the run.
        total: u64,
        /// Bytes a second.
        rate: u64,
        /// How many transfers the run carries.
        transfers: u64,
    }

    /// Who must give a receipt.
    Receiver {
        /// The download's name.
        name: String,
        /// When its receipt came.
        received: Option<u64>,
    }

    /// One unfinished transfer, or an item that is to become one.
    Transfer {
        /// Its id, once it has one.
        id: Option<String>,
        /// The item's name, printable.
        item: String,
        /// The item's name without loss; [`crate::machine::ItemName::decode`] reads it.
        item_encoded: String,
        /// The upload it comes from.
        upload: String,
        /// `file`, `directory` or `symlink`, once known.
        kind: Option<String>,
        /// How many files, directories and links, once known.
        entries: Option<u64>,
        /// Bytes.
        size: u64,
        /// 32 hex digits, once known.
        md5: Option<String>,
        /// Whose word on it this is.
        node: String,
        /// What happens to the item, a stable word.
        state: String,
        /// The stage's stable word.
        stage: String,
        /// Why it waits, or what it does.
        reason: Reason,
        /// Since when it has been in this stage.
        since: u64,
        /// When something is tried next, where that is by the clock.
        next: Option<u64>,
        /// Failed attempts in a row.
        attempts: u32,
        /// The order that holds it alone.
        paused: Option<Paused>,
        /// The rsync run that moves it, when one does.
        progress: Option<Progress>,
        /// Central: who must give a receipt.
        receivers: Vec<Receiver>,
        /// How copies differ from the source other than in content, one line for people.
        remark: Option<String>,
    }

    /// Where a transfer stands on one node.
    Step {
        /// The node.
        node: String,
        /// The stage's stable word.
        stage: String,
        /// Why it waits, or what it does; nothing when it is over.
        reason: Option<Reason>,
        /// Since when it has been in this stage.
        since: u64,
        /// When something is tried next, where that is by the clock.
        next: Option<u64>,
        /// Failed attempts in a row.
        attempts: u32,
        /// What this node found its own copy to be, once proven there.
        md5: Option<String>,
        /// When this node first knew of it.
        created: u64,
        /// When the bytes began to move.
        began: Option<u64>,
        /// When they had moved and were proven.
        arrived: Option<u64>,
        /// When it was over on this node.
        finished: Option<u64>,
        /// The order that holds it there.
        paused: Option<Paused>,
        /// The rsync run that moves it, when one does.
        progress: Option<Progress>,
        /// How its copy differs from the source other than in content, one line for people.
        remark: Option<String>,
    }

    /// A transfer's whole way, hop by hop.
    Journey {
        /// The transfer as the group sees it; of a finished one, as it ended.
        transfer: Transfer,
        /// Where it stands: upload, central, then the downloads.
        steps: Vec<Step>,
    }

    /// A node of the group.
    Member {
        /// `upload`, `central` or `download`.
        mode: String,
        /// What it is called.
        name: String,
        /// The version of its program.
        version: String,
        /// The host it runs on; empty where it does not tell.
        host: String,
        /// When it was first heard.
        first_heard: u64,
        /// When it was last heard.
        heard: u64,
        /// Whether that was within the last few minutes.
        alive: bool,
        /// The order that holds the whole node.
        paused: Option<Paused>,
        /// Bytes free on the file system of its directory, once known.
        free: Option<u64>,
        /// Inodes free there, once known, where that file system has a limit for them.
        free_inodes: Option<u64>,
        /// What it does, in one line.
        doing: String,
        /// By how many milliseconds its clock is ahead, once known.
        clock_ahead: Option<i64>,
        /// The lowest and the highest version of the protocol that it speaks, once known.
        protocols: Option<Vec<u64>>,
        /// Why it cannot be worked with, where it shares no protocol, and what to do.
        apart: Option<Reason>,
    }

    /// The group at one moment, as one node tells it.
    Status {
        /// When this was so, by the answering node's clock.
        now: u64,
        /// The daemon that answers.
        node: Node,
        /// Its session with the broker.
        broker: Broker,
        /// Why nothing is done in its directory, where that is not the one it was.
        directory: Option<Reason>,
        /// Whose view of the group the rest is.
        view: View,
        /// The order that holds the whole group.
        group_paused: Option<Paused>,
        /// The nodes of the group, the answering one among them: uploads, centrals, downloads.
        members: Vec<Member>,
        /// How many transfers are unfinished; what is delivered does not count.
        total: u64,
        /// How many are in each stage, what is delivered among them.
        counts: Vec<Count>,
        /// How many are in each state.
        states: Vec<StateCount>,
        /// How many of them fail or need a person.
        attention: u64,
        /// Which transfers those are, for the node that asks another.
        urgent: Vec<String>,
        /// How many items that are no transfers yet are in each state, for the node that asks another.
        unsent: Vec<StateCount>,
        /// Where transfers stand on this node, for the node that asks another.
        tallied: Vec<Tallied>,
        /// The first of them, most in need of attention first.
        transfers: Vec<Transfer>,
    }

    /// A transfer that is over, as one node's journal has it.
    Past {
        /// Its id.
        id: String,
        /// The item's name, printable.
        item: String,
        /// The item's name without loss.
        item_encoded: String,
        /// The upload it came from.
        upload: String,
        /// `file`, `directory` or `symlink`.
        kind: String,
        /// How many files, directories and links.
        entries: u64,
        /// Bytes.
        size: u64,
        /// 32 hex digits.
        md5: String,
        /// `closed` or `withdrawn`.
        stage: String,
        /// When this node first knew of it.
        created: u64,
        /// When its bytes began to move here, if they did.
        began: Option<u64>,
        /// When they had moved and were proven, if they were.
        arrived: Option<u64>,
        /// When it was over.
        finished: u64,
        /// Bytes a second between the two, where that can be said.
        rate: Option<u64>,
        /// Central: who gave a receipt, and when.
        receivers: Vec<Receiver>,
        /// How copies differ from the source other than in content, one line for people.
        remark: Option<String>,
    }

    /// What one node did about an order.
    Deed {
        /// The node.
        node: String,
        /// The item it was about, printable; nothing when it was about the node or the group.
        item: Option<String>,
        /// Whether it was done.
        done: bool,
        /// What was done, or why not, in one line.
        text: String,
    }

    /// One thing that was examined.
    Finding {
        /// What was examined, a stable word.
        check: String,
        /// `ok`, `warning`, `failed` or `skipped`.
        result: String,
        /// What was found, in one line.
        text: String,
        /// What to do about it, where something needs to be done.
        cure: Option<String>,
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
        /// At most as many as were asked for, oldest first.
        transfers: Vec<Transfer>,
        /// How many match in all.
        total: u64,
        /// Whether some follow.
        more: bool,
    }

    /// Answer to `GetTransfer`.
    GetTransfer {
        /// Whose view it is.
        view: View,
        /// Its whole way.
        journey: Journey,
    }

    /// One of the answers to `Monitor`.
    Monitor {
        /// Whether this is everything, not what has changed.
        full: bool,
        /// The group; its transfers are those that are new or have changed.
        status: Status,
        /// What is no longer in the list: ids, or upload, slash and encoded name.
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
        /// What `md5sum -c` reads; [`GetReceipt::bytes`] undoes the encoding.
        lines: String,
        /// Whether names in it hold bytes that are no UTF-8, so that it is encoded.
        encoded: bool,
        /// How copies differ from the source other than in content, one line for people.
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
        /// What it was.
        previous: String,
    }

    /// Answer to `Reload`.
    Reload {
        /// Keys with another value from now on.
        changed: Vec<String>,
        /// Keys with another value after a restart only.
        restart: Vec<String>,
    }

    /// Answer to `Check`.
    Check {
        /// In the order in which they were examined.
        findings: Vec<Finding>,
    }
}

/// What `GetStatus` and `Monitor` are to show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// At most so many transfers; the daemon decides how many when there is no limit.
    pub limit: Option<u64>,
    /// Only what the node knows that answers, without asking the others.
    pub here: bool,
    /// Also what is delivered.
    pub all: bool,
}

/// Which transfers `List` is to tell of; what is not set does not narrow it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Filter {
    /// In this state.
    pub state: Option<String>,
    /// From this upload.
    pub upload: Option<String>,
    /// Only those that fail or need a person.
    pub failed: Option<bool>,
    /// Also those that are delivered.
    pub all: Option<bool>,
    /// At most so many.
    pub limit: Option<u64>,
    /// Those behind the transfer with this id.
    pub after: Option<String>,
    /// As this node alone knows them.
    pub here: Option<bool>,
}

/// Which finished transfers `GetHistory` is to tell of; what is not set does not narrow it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PastFilter {
    /// Over since that moment.
    pub since: Option<u64>,
    /// Of items of that name.
    pub item: Option<String>,
    /// At most so many.
    pub limit: Option<u64>,
    /// Over before that moment.
    pub before: Option<u64>,
    /// With `before`: also over just then, with a smaller id than this.
    pub behind: Option<String>,
}

#[cfg(test)]
mod tests;
