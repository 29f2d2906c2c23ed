//! The man pages, from clap's definitions, the table of config keys and the interface.

use clap::{Arg, Command, CommandFactory};
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use synkler::cli::{Arguments, DAEMON_EXITS, DaemonArguments, EXITS};
use synkler::config::{KEYS, Preset};
use synkler::control::DESCRIPTION;

/// The pages are as old as their version.
const NO_DATE: &str = "\"\"";

/// synkler(8)
pub(super) fn synkler() -> String {
    let mut command = DaemonArguments::command();
    command.build();
    let mut page = opening(&command, "8", "synkler system manual");
    section(&mut page, "OPTIONS");
    options(&mut page, &command);
    verbs(&mut page, &command, "synkler");
    exits(&mut page, DAEMON_EXITS);
    section(&mut page, "LOG");
    paragraph(
        &mut page,
        "Each step of a transfer is one line of priority info with the fields SYNKLER_ITEM (name of the item; %, control \
         characters and bytes that are not UTF-8 are written as % and two hex digits), SYNKLER_TRANSFER (id of the \
         transfer) and SYNKLER_PEER (the other node). To show the steps of one item on this host:",
    );
    example(&mut page, &["journalctl -u synkler SYNKLER_ITEM=name"]);
    section(&mut page, "SIGNALS");
    terms(
        &mut page,
        &[
            ("SIGTERM, SIGINT", "stop; running transfers are interrupted and continue after the next start"),
            ("SIGHUP", "reload the config, like synklerctl reload"),
        ],
    );
    section(&mut page, "FILES");
    terms(
        &mut page,
        &[
            ("/etc/synkler/synkler.toml", "the config, see synkler.conf(5)"),
            ("/etc/synkler/credentials", "passwords and keys that only root can read, see synkler.conf(5)"),
            ("/var/lib/synkler", "the journal, if systemd starts the daemon: config key state_dir"),
            (
                "/var/lib/synkler/ssh_key",
                "SSH key for the login to central, created by synkler keys; without it, the ssh defaults apply",
            ),
            (
                "/var/lib/synkler/known_hosts",
                "trusted SSH host keys, written by synkler trust; without it, the ssh defaults apply",
            ),
            (
                "/etc/synkler/credentials/ssh_key",
                "SSH key that systemd passes to the service, used instead of ssh_key; only root can read it",
            ),
            ("/run/synkler/control.sock", "control socket, used by synklerctl: config key control_socket"),
        ],
    );
    closing(page, "synklerctl(1), synkler.conf(5), rsync(1), systemd(1), journalctl(1)")
}

/// synklerctl(1)
pub(super) fn synklerctl() -> String {
    let mut command = Arguments::command();
    command.build();
    let mut page = opening(&command, "1", "synkler manual");
    section(&mut page, "OPTIONS");
    options(&mut page, &command);
    verbs(&mut page, &command, "synklerctl");
    exits(&mut page, EXITS);
    section(&mut page, "ENVIRONMENT");
    terms(
        &mut page,
        &[
            ("SYNKLER_CONTROL_SOCKET", "control socket of the daemon, if --socket is not given"),
            ("TZ", "time zone of the times in the text, instead of /etc/localtime; UTC if it names no known zone"),
            ("NO_COLOR", "print no colours, if set and not empty"),
            ("COLUMNS", "width of the text, instead of the width of the terminal; 80 if neither is known"),
        ],
    );
    section(&mut page, "JSON");
    paragraph(
        &mut page,
        "With --json, stdout holds only one document, or one line per record if the verb says so. Errors go to stderr, and \
         the exit code is the same as without --json. The types are those of the Varlink interface io.synkler.Control; \
         the daemon also serves its description. Every field is always present; a field that does not apply is null. \
         Times are milliseconds since 1970-01-01 UTC, sizes are bytes. Later versions may add fields: ignore unknown \
         fields. ?type is a type or null, []type an array.",
    );
    types(&mut page);
    section(&mut page, "EXAMPLES");
    for (what, line) in [
        ("Show the status of this node and of the whole group:", "synklerctl status"),
        ("Show where one file is:", "synklerctl status results.tar"),
        ("List failing items for a script:", "synklerctl list --failed --json | jq -r .item"),
        ("Start no new transfers on this node and stop the running ones:", "synklerctl pause --now"),
        ("Check what was delivered since yesterday:", "synklerctl history --since yesterday"),
        ("Verify an item in the directory that holds it:", "synklerctl receipt run-42 | md5sum -c"),
        ("Check everything up to the receivers:", "synklerctl check --canary"),
    ] {
        paragraph(&mut page, what);
        example(&mut page, &[line]);
    }
    closing(page, "synkler(8), synkler.conf(5), md5sum(1)")
}

/// synkler.conf(5)
pub(super) fn synkler_conf() -> String {
    let mut page = Roff::new();
    page.control("TH", ["synkler.conf", "5", NO_DATE, version().as_str(), "synkler system manual"]);
    section(&mut page, "NAME");
    page.text([roman("synkler.conf - config file of a synkler node")]);
    section(&mut page, "DESCRIPTION");
    for text in [
        "synkler(8) reads the file given by --config, else by $SYNKLER_CONF (a file, or a directory with synkler.conf). \
         Otherwise it reads the first file that sets a key of $HOME/synkler.conf, $HOME/.config/synkler/synkler.conf, \
         /etc/synkler/synkler.toml and /etc/synkler.conf. \
         The format is TOML, or INI as in the original Python program ([default], values without quotes).",
        "An environment variable SYNKLER_KEY, with the key in capitals, overrides the file. An unknown key is an error. \
         synkler --check prints the settings in force and the source of each.",
    ] {
        paragraph(&mut page, text);
    }
    section(&mut page, "KEYS");
    for key in KEYS {
        page.control("TP", []);
        page.text([bold(key.name)]);
        page.text([roman(sentence(key.meaning))]);
        page.control("br", []);
        let default = match key.preset {
            Preset::Required => "Must be set".to_owned(),
            Preset::Value(value) => format!("Default: {value}"),
            Preset::Computed(text) => format!("Default: {text}"),
            Preset::Ignored => "No effect".to_owned(),
        };
        let modes: Vec<_> = key.modes.iter().map(ToString::to_string).collect();
        let modes = if modes.len() < 3 { format!(" Used by {}.", modes.join(" and ")) } else { String::new() };
        page.text([roman(format!("{default}.{modes}"))]);
    }
    section(&mut page, "CREDENTIALS");
    paragraph(
        &mut page,
        "Secrets belong in /etc/synkler/credentials, which only root can read; systemd passes them to the service. A key \
         that is set in the config overrides its credential. If several nodes run on one host, the credentials of one node \
         are in the subdirectory <id>-<mode>. Without systemd, synkler reads the files directly, if it has permission.",
    );
    terms(
        &mut page,
        &[
            ("password", "password of the broker account, on one line: config key password"),
            ("ca.pem", "CA certificates for the broker's certificate: config key ca_file"),
            (
                "client.pem, client.key",
                "client certificate and its private key: config keys client_cert and client_key",
            ),
        ],
    );
    section(&mut page, "EXAMPLE");
    let lines = [
        "mode = \"upload\"",
        "file_dir = \"/srv/outgoing\"",
        "synkler_server = \"central.example.com\"",
        "username = \"synkler\"",
        "tls = true",
        "cleanup_move = \"/srv/sent\"",
    ];
    example(&mut page, &lines);
    closing(page, "synkler(8), synklerctl(1)")
}

fn version() -> String {
    format!("synkler {}", env!("CARGO_PKG_VERSION"))
}

fn opening(command: &Command, number: &str, manual: &str) -> Roff {
    let mut page = Roff::new();
    let name = command.get_name();
    page.control("TH", [name, number, NO_DATE, version().as_str(), manual]);
    section(&mut page, "NAME");
    page.text([roman(format!("{name} - {}", short(command)))]);
    section(&mut page, "SYNOPSIS");
    page.text([bold(name), roman(" "), roman(usage(command))]);
    section(&mut page, "DESCRIPTION");
    description(&mut page, command);
    page
}

fn closing(mut page: Roff, also: &str) -> String {
    section(&mut page, "SEE ALSO");
    page.text([roman(also)]);
    page.to_roff()
}

fn section(page: &mut Roff, name: &str) {
    page.control("SH", [name]);
}

fn paragraph(page: &mut Roff, text: &str) {
    page.control("PP", []);
    page.text([roman(text)]);
}

fn example(page: &mut Roff, lines: &[&str]) {
    page.control("PP", []).control("RS", ["4"]).control("nf", []);
    for line in lines {
        page.text([roman(*line)]);
    }
    page.control("fi", []).control("RE", []);
}

fn terms(page: &mut Roff, terms: &[(&str, &str)]) {
    for (term, text) in terms {
        page.control("TP", []);
        page.text([bold(*term)]);
        page.text([roman(sentence(text))]);
    }
}

fn exits(page: &mut Roff, codes: &[(u8, &str)]) {
    section(page, "EXIT STATUS");
    for (code, meaning) in codes {
        page.control("TP", []);
        page.text([bold(code.to_string())]);
        page.text([roman(sentence(meaning))]);
    }
}

fn short(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

/// The first letter large and a full stop at the end.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    // A name stays as it is written.
    let first = if text.starts_with("synkler") || text.starts_with('[') { text[..1].to_owned() } else { first };
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}

/// The long text without its first paragraph, which is the short one.
fn description(page: &mut Roff, command: &Command) {
    let long = command.get_long_about().map(ToString::to_string).unwrap_or_default();
    let mut paragraphs = long.split("\n\n").skip(1).peekable();
    if paragraphs.peek().is_none() {
        page.text([roman(sentence(&short(command)))]);
    }
    for text in paragraphs {
        paragraph(page, text);
    }
}

/// Options and arguments as they follow the name.
fn usage(command: &Command) -> String {
    let mut parts = Vec::new();
    for argument in shown(command) {
        let text = spelling(argument).into_iter().map(|(_, text)| text).collect::<String>();
        let text = match (argument.get_long(), argument.get_short()) {
            (Some(_), Some(_)) => text.split(", ").last().unwrap_or_default().to_owned(),
            _ => text,
        };
        let many = argument.get_num_args().is_some_and(|range| range.max_values() > 1);
        let text = if many { format!("{text}...") } else { text };
        parts.push(if argument.is_required_set() { text } else { format!("[{text}]") });
    }
    let verb = "VERB";
    if command.has_subcommands() {
        parts.push(if command.is_subcommand_required_set() { format!("{verb} ...") } else { format!("[{verb} ...]") });
    }
    parts.join(" ")
}

/// The arguments of a command alone: help, version and what stands at the top are told once.
fn shown(command: &Command) -> impl Iterator<Item = &Arg> {
    let top = ["synkler", "synklerctl"].contains(&command.get_name());
    command.get_arguments().filter(move |argument| {
        !["help", "version"].contains(&argument.get_id().as_str()) && (top || !argument.is_global_set())
    })
}

/// How an argument is written; the flag says what is typed as it is.
fn spelling(argument: &Arg) -> Vec<(bool, String)> {
    let mut parts = Vec::new();
    let names = [argument.get_short().map(|c| format!("-{c}")), argument.get_long().map(|long| format!("--{long}"))];
    for name in names.into_iter().flatten() {
        if !parts.is_empty() {
            parts.push((false, ", ".to_owned()));
        }
        parts.push((true, name));
    }
    if argument.get_action().takes_values() {
        let value = argument.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
        let value = value.unwrap_or_else(|| argument.get_id().as_str().to_ascii_uppercase());
        parts.push((false, if parts.is_empty() { value } else { format!(" {value}") }));
    }
    parts
}

fn options(page: &mut Roff, command: &Command) {
    let top = !command.has_subcommands() || ["synkler", "synklerctl"].contains(&command.get_name());
    for argument in shown(command) {
        page.control("TP", []);
        let inlines: Vec<Inline> = spelling(argument)
            .into_iter()
            .map(|(typed, text)| match (typed, text.as_str()) {
                (true, _) => bold(text),
                (false, ", ") => roman(text),
                (false, _) => italic(text),
            })
            .collect();
        page.text(inlines);
        let mut help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
        if let Some(default) = argument.get_default_values().first().filter(|_| argument.get_action().takes_values()) {
            help.push_str(&format!(" [default: {}]", default.to_string_lossy()));
        }
        page.text([roman(help)]);
        for value in argument.get_possible_values().iter().filter(|_| argument.get_action().takes_values()) {
            let help = value.get_help().map(ToString::to_string).unwrap_or_default();
            page.control("br", []);
            page.text([bold(value.get_name()), roman(format!(": {help}"))]);
        }
    }
    if top && command.get_name().starts_with("synkler") {
        for (spelled, help) in
            [("-h, --help", "Print help; --help more than -h"), ("-V, --version", "Print the version")]
        {
            page.control("TP", []);
            page.text([bold(spelled)]);
            page.text([roman(help)]);
        }
    }
}

fn verbs(page: &mut Roff, command: &Command, path: &str) {
    if command.has_subcommands() && !path.contains(' ') {
        section(page, "VERBS");
    }
    for verb in command.get_subcommands() {
        let path = format!("{path} {}", verb.get_name());
        let name = path.split_once(' ').map_or("", |(_, rest)| rest);
        page.control("SS", [format!("{name} {}", usage(verb)).trim_end()]);
        page.text([roman(format!("{}.", short(verb)))]);
        if verb.get_long_about().is_some_and(|long| long.to_string().contains("\n\n")) {
            description(page, verb);
        }
        options(page, verb);
        if let Some(json) = verb.get_after_long_help() {
            paragraph(page, &json.to_string());
        }
        verbs(page, verb, &path);
    }
}

/// The types of the interface: each field with what stands above it.
fn types(page: &mut Roff) {
    let mut comment: Vec<&str> = Vec::new();
    let mut inside = false;
    for line in DESCRIPTION.lines() {
        let line = line.trim();
        if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim());
        } else if let Some(name) = line.strip_prefix("type ") {
            inside = true;
            page.control("SS", [name.trim_end_matches(" (")]);
            page.text([roman(comment.join(" "))]);
            comment.clear();
        } else if line == ")" {
            inside = false;
        } else if let Some((name, kind)) = line.split_once(": ").filter(|_| inside) {
            page.control("TP", []);
            page.text([bold(name), roman(" ("), italic(kind.trim_end_matches(',')), roman(")")]);
            page.text([roman(comment.join(" "))]);
            comment.clear();
        } else {
            comment.clear();
        }
    }
}
