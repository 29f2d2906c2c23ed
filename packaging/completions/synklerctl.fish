# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_synklerctl_global_optspecs
    string join \n socket= id= json h/help V/version
end

function __fish_synklerctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_synklerctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_synklerctl_using_subcommand
    set -l cmd (__fish_synklerctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c synklerctl -n "__fish_synklerctl_needs_command" -l socket -d 'The daemon\'s control socket [default: looked for in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_needs_command" -l id -d 'The daemon\'s group, where several run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_needs_command" -l json -d 'Print JSON, which stays the same from version to version, instead of a text'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -s V -l version -d 'Print version'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "status" -d 'Show this node, its group, what is on the way and why it waits; with ITEM, its whole journey'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "list" -d 'List unfinished transfers, one line each, the oldest first'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "watch" -d 'Show the status live, in place; q quits'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "pause" -d 'Let nothing new start: on this node, for these items, or in the whole group'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "resume" -d 'End a pause: of this node, of these items, or of the whole group'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "retry" -d 'Try again now what waits for its next attempt'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "bump" -d 'Send or fetch these next'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "withdraw" -d 'Give these transfers up, without touching their sources'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "history" -d 'Show what was handed over: when, how big, how fast, with which MD5'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "nodes" -d 'Show who belongs to the group, since when, and when it was last heard'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "receipt" -d 'Print the proof of a transfer, as md5sum -c reads it'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "check" -d 'Examine this node from end to end, and say what to do about what is wrong'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "log-level" -d 'Log from now on until the next start only what is as important as this'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "reload" -d 'Have the daemon read its config again'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "version" -d 'Show the versions of this program and of the daemon'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand status" -l limit -d 'Show at most so many transfers, up to 1000 [default: 100]' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand status" -l socket -d 'The daemon\'s control socket [default: looked for in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand status" -l id -d 'The daemon\'s group, where several run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand status" -l here -d 'Show what this node knows, without asking any other'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand status" -l json -d 'Print JSON, which stays the same from version to version, instead of a text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand list" -l state -d 'Only those in this stage, such as sending or held' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand list" -l from -d 'Only those of this upload' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand list" -l limit -d 'At most so many' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand list" -l socket -d 'The daemon\'s control socket [default: looked for in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand list" -l id -d 'The daemon\'s group, where several run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand list" -l failed -d 'Only those that fail or are held up'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand list" -l here -d 'Show what this node knows, without asking any other'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand list" -l json -d 'Print JSON, which stays the same from version to version, instead of a text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand watch" -l limit -d 'Show at most so many transfers, up to 1000 [default: 100]' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand watch" -l socket -d 'The daemon\'s control socket [default: looked for in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand watch" -l id -d 'The daemon\'s group, where several run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand watch" -l here -d 'Show what this node knows, without asking any other'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand watch" -l json -d 'Print JSON, which stays the same from version to version, instead of a text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand watch" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand pause" -l socket -d 'The daemon\'s control socket [default: looked for in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand pause" -l id -d 'The daemon\'s group, where several run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand pause" -l now -d 'Stop what runs, too; what it has moved stays and is continued later'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand pause" -l group -d 'The whole group'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand pause" -l json -d 'Print JSON, which stays the same from version to version, instead of a text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand pause" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand resume" -l socket -d 'The daemon\'s control socket [default: looked for in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand resume" -l id -d 'The daemon\'s group, where several run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand resume" -l group -d 'The whole group'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand resume" -l json -d 'Print JSON, which stays the same from version to version, instead of a text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand resume" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand retry" -l socket -d 'The daemon\'s control socket [default: looked for in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand retry" -l id -d 'The daemon\'s group, where several run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand retry" -l json -d 'Print JSON, which stays the same from version to version, instead of a text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand retry" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand bump" -l socket -d 'The daemon\'s control socket [default: looked for in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand bump" -l id -d 'The daemon\'s group, where several run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand bump" -l json -d 'Print JSON, which stays the same from version to version, instead of a text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand bump" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand withdraw" -l socket -d 'The daemon\'s control socket [default: looked for in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand withdraw" -l id -d 'The daemon\'s group, where several run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand withdraw" -l json -d 'Print JSON, which stays the same from version to version, instead of a text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand withdraw" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand history" -l since -d 'Only what ended since then: 90min, 2h, 3d, today, yesterday, 2026-11-23 or \'2026-11-23 18:30\' (UTC)' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand history" -l item -d 'Only items of this name' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand history" -l limit -d 'At most so many' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand history" -l socket -d 'The daemon\'s control socket [default: looked for in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand history" -l id -d 'The daemon\'s group, where several run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand history" -l json -d 'Print JSON, which stays the same from version to version, instead of a text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand history" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and not __fish_seen_subcommand_from forget" -l socket -d 'The daemon\'s control socket [default: looked for in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and not __fish_seen_subcommand_from forget" -l id -d 'The daemon\'s group, where several run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and not __fish_seen_subcommand_from forget" -l here -d 'Show whom this node knows, without asking any other'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and not __fish_seen_subcommand_from forget" -l json -d 'Print JSON, which stays the same from version to version, instead of a text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and not __fish_seen_subcommand_from forget" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and not __fish_seen_subcommand_from forget" -f -a "forget" -d 'No longer count on a node that will not come back: a download\'s receipts are not waited for any more'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and __fish_seen_subcommand_from forget" -l mode -d 'What it does, where several nodes have that name' -r -f -a "upload\t'It sends'
central\t'It holds copies on their way'
download\t'It fetches'"
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and __fish_seen_subcommand_from forget" -l socket -d 'The daemon\'s control socket [default: looked for in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and __fish_seen_subcommand_from forget" -l id -d 'The daemon\'s group, where several run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and __fish_seen_subcommand_from forget" -l yes -d 'Do not ask'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and __fish_seen_subcommand_from forget" -l json -d 'Print JSON, which stays the same from version to version, instead of a text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and __fish_seen_subcommand_from forget" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand receipt" -l socket -d 'The daemon\'s control socket [default: looked for in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand receipt" -l id -d 'The daemon\'s group, where several run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand receipt" -l json -d 'Print JSON, which stays the same from version to version, instead of a text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand receipt" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand check" -l socket -d 'The daemon\'s control socket [default: looked for in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand check" -l id -d 'The daemon\'s group, where several run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand check" -l canary -d 'Send a small file through the whole group, too, and follow it (on an upload)'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand check" -l json -d 'Print JSON, which stays the same from version to version, instead of a text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand log-level" -l socket -d 'The daemon\'s control socket [default: looked for in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand log-level" -l id -d 'The daemon\'s group, where several run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand log-level" -l json -d 'Print JSON, which stays the same from version to version, instead of a text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand log-level" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand reload" -l socket -d 'The daemon\'s control socket [default: looked for in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand reload" -l id -d 'The daemon\'s group, where several run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand reload" -l json -d 'Print JSON, which stays the same from version to version, instead of a text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand reload" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand version" -l socket -d 'The daemon\'s control socket [default: looked for in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand version" -l id -d 'The daemon\'s group, where several run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand version" -l json -d 'Print JSON, which stays the same from version to version, instead of a text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand version" -s h -l help -d 'Print help (see more with \'--help\')'
