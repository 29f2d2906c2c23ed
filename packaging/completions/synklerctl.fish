# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_synklerctl_global_optspecs
    string join \n socket= user id= json utc h/help V/version
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

complete -c synklerctl -n "__fish_synklerctl_needs_command" -l socket -d 'Control socket of the daemon [default: searched in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_needs_command" -l id -d 'Group id of the daemon, if several daemons run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_needs_command" -l user -d 'Ask the daemon of this user (systemctl --user), not the one of the system'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -l json -d 'Print JSON with a stable schema instead of text'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -l utc -d 'Show and read times in UTC instead of local time'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -s V -l version -d 'Print version'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "status" -d 'Show this node, its group and the unfinished transfers; with ITEM, details of its transfers'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "list" -d 'List unfinished transfers, one per line, oldest first'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "watch" -d 'Show the status live; press q to quit'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "pause" -d 'Pause transfers on this node, for the given items, or for the whole group'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "resume" -d 'Resume transfers on this node, for the given items, or for the whole group'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "retry" -d 'Retry transfers now, without waiting for the next scheduled attempt'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "bump" -d 'Move transfers to the front of the queue'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "withdraw" -d 'Cancel transfers; their source files are kept'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "history" -d 'Show finished transfers with time, size, speed and MD5'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "nodes" -d 'Show the nodes of the group, when each joined and when it was last seen'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "receipt" -d 'Print the receipt of a transfer, in the format of md5sum -c'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "explain" -d 'Explain what synkler makes of a file, and why'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "submit" -d 'Send these files or directories of this upload now'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "check" -d 'Check this node and print what is wrong and how to fix it'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "adopt" -d 'Accept the directory that is at file_dir now as the directory of this node'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "log-level" -d 'Set the log level until the daemon restarts'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "reload" -d 'Reload the config of the daemon'
complete -c synklerctl -n "__fish_synklerctl_needs_command" -f -a "version" -d 'Show the versions of this program and of the daemon'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand status" -l limit -d 'Show at most N transfers, up to 1000 [default: 100]' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand status" -l socket -d 'Control socket of the daemon [default: searched in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand status" -l id -d 'Group id of the daemon, if several daemons run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand status" -l here -d 'Show only what this node knows, without asking other nodes'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand status" -l all -d 'Show also delivered transfers, of which central still keeps a copy'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand status" -l user -d 'Ask the daemon of this user (systemctl --user), not the one of the system'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand status" -l json -d 'Print JSON with a stable schema instead of text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand status" -l utc -d 'Show and read times in UTC instead of local time'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand list" -l state -d 'Only transfers in this state' -r -f -a "settling\t'the upload waits until the item no longer changes, or computes its checksum'
queued\t'waits for its turn to be sent or fetched'
uploading\t'rsync sends the item to central'
verifying\t'a node compares its copy with the announced item'
downloading\t'rsync fetches the item from central'
waiting\t'waits for something that ends by itself: space, a node, the broker, an earlier item'
cleaning-up\t'every receiver has the item, and a cleanup is not finished yet'
delivered\t'every receiver has the item and every cleanup is done; central keeps its copy for keep_minutes'
paused\t'an operator paused the transfer'
blocked\t'the upload cannot send the item as it is; the reason says why'
failed\t'an attempt failed and is repeated, or a person has to act; the reason says which'
cancelled\t'an operator cancelled the transfer, or its upload withdrew it'"
complete -c synklerctl -n "__fish_synklerctl_using_subcommand list" -l from -d 'Only transfers from this upload node' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand list" -l limit -d 'Show at most N transfers' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand list" -l socket -d 'Control socket of the daemon [default: searched in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand list" -l id -d 'Group id of the daemon, if several daemons run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand list" -l failed -d 'Only transfers that need attention: what failed, and what only a person can continue'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand list" -l all -d 'List also delivered transfers, of which central still keeps a copy'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand list" -l here -d 'Show only what this node knows, without asking other nodes'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand list" -l user -d 'Ask the daemon of this user (systemctl --user), not the one of the system'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand list" -l json -d 'Print JSON with a stable schema instead of text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand list" -l utc -d 'Show and read times in UTC instead of local time'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand watch" -l limit -d 'Show at most N transfers, up to 1000 [default: 100]' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand watch" -l socket -d 'Control socket of the daemon [default: searched in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand watch" -l id -d 'Group id of the daemon, if several daemons run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand watch" -l here -d 'Show only what this node knows, without asking other nodes'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand watch" -l all -d 'Show also delivered transfers, of which central still keeps a copy'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand watch" -l user -d 'Ask the daemon of this user (systemctl --user), not the one of the system'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand watch" -l json -d 'Print JSON with a stable schema instead of text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand watch" -l utc -d 'Show and read times in UTC instead of local time'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand watch" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand pause" -l socket -d 'Control socket of the daemon [default: searched in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand pause" -l id -d 'Group id of the daemon, if several daemons run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand pause" -l now -d 'Also stop running transfers; they continue later from the data already moved'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand pause" -l group -d 'Pause the whole group'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand pause" -l user -d 'Ask the daemon of this user (systemctl --user), not the one of the system'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand pause" -l json -d 'Print JSON with a stable schema instead of text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand pause" -l utc -d 'Show and read times in UTC instead of local time'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand pause" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand resume" -l socket -d 'Control socket of the daemon [default: searched in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand resume" -l id -d 'Group id of the daemon, if several daemons run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand resume" -l group -d 'Resume the whole group'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand resume" -l user -d 'Ask the daemon of this user (systemctl --user), not the one of the system'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand resume" -l json -d 'Print JSON with a stable schema instead of text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand resume" -l utc -d 'Show and read times in UTC instead of local time'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand resume" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand retry" -l socket -d 'Control socket of the daemon [default: searched in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand retry" -l id -d 'Group id of the daemon, if several daemons run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand retry" -l user -d 'Ask the daemon of this user (systemctl --user), not the one of the system'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand retry" -l json -d 'Print JSON with a stable schema instead of text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand retry" -l utc -d 'Show and read times in UTC instead of local time'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand retry" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand bump" -l socket -d 'Control socket of the daemon [default: searched in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand bump" -l id -d 'Group id of the daemon, if several daemons run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand bump" -l user -d 'Ask the daemon of this user (systemctl --user), not the one of the system'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand bump" -l json -d 'Print JSON with a stable schema instead of text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand bump" -l utc -d 'Show and read times in UTC instead of local time'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand bump" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand withdraw" -l socket -d 'Control socket of the daemon [default: searched in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand withdraw" -l id -d 'Group id of the daemon, if several daemons run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand withdraw" -l user -d 'Ask the daemon of this user (systemctl --user), not the one of the system'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand withdraw" -l json -d 'Print JSON with a stable schema instead of text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand withdraw" -l utc -d 'Show and read times in UTC instead of local time'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand withdraw" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand history" -l since -d 'Only transfers that ended since T: 90min, 2h, 3d, today, yesterday, 2026-11-23 or \'2026-11-23 18:30\' (local time, or UTC with --utc)' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand history" -l item -d 'Only items with this name' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand history" -l limit -d 'Show at most N transfers' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand history" -l socket -d 'Control socket of the daemon [default: searched in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand history" -l id -d 'Group id of the daemon, if several daemons run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand history" -l user -d 'Ask the daemon of this user (systemctl --user), not the one of the system'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand history" -l json -d 'Print JSON with a stable schema instead of text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand history" -l utc -d 'Show and read times in UTC instead of local time'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand history" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and not __fish_seen_subcommand_from forget" -l socket -d 'Control socket of the daemon [default: searched in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and not __fish_seen_subcommand_from forget" -l id -d 'Group id of the daemon, if several daemons run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and not __fish_seen_subcommand_from forget" -l here -d 'Show only the nodes that this node knows, without asking other nodes'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and not __fish_seen_subcommand_from forget" -l user -d 'Ask the daemon of this user (systemctl --user), not the one of the system'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and not __fish_seen_subcommand_from forget" -l json -d 'Print JSON with a stable schema instead of text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and not __fish_seen_subcommand_from forget" -l utc -d 'Show and read times in UTC instead of local time'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and not __fish_seen_subcommand_from forget" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and not __fish_seen_subcommand_from forget" -f -a "forget" -d 'Remove a node from the group; its receipts are no longer required'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and __fish_seen_subcommand_from forget" -l mode -d 'Mode of the node, if several nodes have that name' -r -f -a "upload\t'Sends files'
central\t'Stores copies until every receiver has them'
download\t'Receives files'"
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and __fish_seen_subcommand_from forget" -l socket -d 'Control socket of the daemon [default: searched in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and __fish_seen_subcommand_from forget" -l id -d 'Group id of the daemon, if several daemons run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and __fish_seen_subcommand_from forget" -l yes -d 'Do not ask for confirmation'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and __fish_seen_subcommand_from forget" -l user -d 'Ask the daemon of this user (systemctl --user), not the one of the system'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and __fish_seen_subcommand_from forget" -l json -d 'Print JSON with a stable schema instead of text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and __fish_seen_subcommand_from forget" -l utc -d 'Show and read times in UTC instead of local time'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand nodes; and __fish_seen_subcommand_from forget" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand receipt" -l socket -d 'Control socket of the daemon [default: searched in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand receipt" -l id -d 'Group id of the daemon, if several daemons run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand receipt" -l user -d 'Ask the daemon of this user (systemctl --user), not the one of the system'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand receipt" -l json -d 'Print JSON with a stable schema instead of text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand receipt" -l utc -d 'Show and read times in UTC instead of local time'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand receipt" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand explain" -l socket -d 'Control socket of the daemon [default: searched in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand explain" -l id -d 'Group id of the daemon, if several daemons run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand explain" -l user -d 'Ask the daemon of this user (systemctl --user), not the one of the system'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand explain" -l json -d 'Print JSON with a stable schema instead of text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand explain" -l utc -d 'Show and read times in UTC instead of local time'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand submit" -l socket -d 'Control socket of the daemon [default: searched in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand submit" -l id -d 'Group id of the daemon, if several daemons run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand submit" -l move -d 'Move each PATH into file_dir first, from another directory of the same file system'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand submit" -l user -d 'Ask the daemon of this user (systemctl --user), not the one of the system'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand submit" -l json -d 'Print JSON with a stable schema instead of text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand submit" -l utc -d 'Show and read times in UTC instead of local time'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand submit" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand check" -l socket -d 'Control socket of the daemon [default: searched in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand check" -l id -d 'Group id of the daemon, if several daemons run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand check" -l canary -d 'Also send a small test file through the whole group and follow it (upload only)'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand check" -l user -d 'Ask the daemon of this user (systemctl --user), not the one of the system'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand check" -l json -d 'Print JSON with a stable schema instead of text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand check" -l utc -d 'Show and read times in UTC instead of local time'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand adopt" -l socket -d 'Control socket of the daemon [default: searched in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand adopt" -l id -d 'Group id of the daemon, if several daemons run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand adopt" -l user -d 'Ask the daemon of this user (systemctl --user), not the one of the system'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand adopt" -l json -d 'Print JSON with a stable schema instead of text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand adopt" -l utc -d 'Show and read times in UTC instead of local time'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand adopt" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand log-level" -l socket -d 'Control socket of the daemon [default: searched in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand log-level" -l id -d 'Group id of the daemon, if several daemons run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand log-level" -l user -d 'Ask the daemon of this user (systemctl --user), not the one of the system'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand log-level" -l json -d 'Print JSON with a stable schema instead of text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand log-level" -l utc -d 'Show and read times in UTC instead of local time'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand log-level" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand reload" -l socket -d 'Control socket of the daemon [default: searched in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand reload" -l id -d 'Group id of the daemon, if several daemons run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand reload" -l user -d 'Ask the daemon of this user (systemctl --user), not the one of the system'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand reload" -l json -d 'Print JSON with a stable schema instead of text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand reload" -l utc -d 'Show and read times in UTC instead of local time'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand reload" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand version" -l socket -d 'Control socket of the daemon [default: searched in /run/synkler, $XDG_RUNTIME_DIR and the state directory]' -r -F
complete -c synklerctl -n "__fish_synklerctl_using_subcommand version" -l id -d 'Group id of the daemon, if several daemons run on this host' -r
complete -c synklerctl -n "__fish_synklerctl_using_subcommand version" -l user -d 'Ask the daemon of this user (systemctl --user), not the one of the system'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand version" -l json -d 'Print JSON with a stable schema instead of text'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand version" -l utc -d 'Show and read times in UTC instead of local time'
complete -c synklerctl -n "__fish_synklerctl_using_subcommand version" -s h -l help -d 'Print help (see more with \'--help\')'
