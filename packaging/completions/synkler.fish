# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_synkler_global_optspecs
    string join \n c/config= v/verbose d/debug check h/help V/version
end

function __fish_synkler_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_synkler_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_synkler_using_subcommand
    set -l cmd (__fish_synkler_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c synkler -n "__fish_synkler_needs_command" -s c -l config -d 'Read only this config file' -r -F
complete -c synkler -n "__fish_synkler_needs_command" -s v -l verbose -d 'Accepted for compatibility; has no effect'
complete -c synkler -n "__fish_synkler_needs_command" -s d -l debug -d 'Log details for developers'
complete -c synkler -n "__fish_synkler_needs_command" -l check -d 'Print the settings in force and the source of each, then exit'
complete -c synkler -n "__fish_synkler_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synkler -n "__fish_synkler_needs_command" -s V -l version -d 'Print version'
complete -c synkler -n "__fish_synkler_needs_command" -f -a "check" -d 'Check this node and print the findings as JSON'
complete -c synkler -n "__fish_synkler_needs_command" -f -a "init" -d 'Write the config of this node and print the next steps'
complete -c synkler -n "__fish_synkler_needs_command" -f -a "broker-setup" -d 'Create a broker account with minimal permissions for each node'
complete -c synkler -n "__fish_synkler_needs_command" -f -a "drop-in" -d 'Print the systemd drop-in that gives the service access to the paths in the config'
complete -c synkler -n "__fish_synkler_needs_command" -f -a "keys" -d 'Create the SSH key pair of this node and print the line for authorized_keys on central'
complete -c synkler -n "__fish_synkler_needs_command" -f -a "trust" -d 'Show central\'s SSH host keys and add them to known_hosts'
complete -c synkler -n "__fish_synkler_needs_command" -f -a "gate" -d 'Run a node\'s rsync in one spool on central; this is the forced command in authorized_keys'
complete -c synkler -n "__fish_synkler_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c synkler -n "__fish_synkler_using_subcommand check" -s c -l config -d 'Read only this config file' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synkler -n "__fish_synkler_using_subcommand init" -l file-dir -d 'Watched directory (upload), spool (central) or destination (download)' -r -f -a "(__fish_complete_directories)"
complete -c synkler -n "__fish_synkler_using_subcommand init" -l server -d 'Host name or address of the broker' -r
complete -c synkler -n "__fish_synkler_using_subcommand init" -l id -d 'Group id [default: default]' -r
complete -c synkler -n "__fish_synkler_using_subcommand init" -l name -d 'Name of this node [default: the host name]' -r
complete -c synkler -n "__fish_synkler_using_subcommand init" -l central-host -d 'SSH address of central (default: on central synkler@ and the host name, else the broker host)' -r
complete -c synkler -n "__fish_synkler_using_subcommand init" -l vhost -d 'Virtual host on the broker [default: /]' -r
complete -c synkler -n "__fish_synkler_using_subcommand init" -l username -d 'Account on the broker [default: the one that broker-setup creates for this node]' -r
complete -c synkler -n "__fish_synkler_using_subcommand init" -l password-file -d 'File with the password of the account, on one line; - reads standard input' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand init" -l ca-file -d 'CA certificates for the broker\'s certificate, in PEM; implies --tls' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand init" -l item-depth -d 'Levels of directories below file_dir that stay where they are, on upload: with 1, each directory in it is an inbox' -r
complete -c synkler -n "__fish_synkler_using_subcommand init" -l ready -d 'When an item counts as complete, on upload: settled, marker or submit' -r -f -a "settled\t''
marker\t''
submit\t''"
complete -c synkler -n "__fish_synkler_using_subcommand init" -l used-by -d 'User who writes into file_dir (upload) or reads from it (download), for whom the next steps propose permissions' -r
complete -c synkler -n "__fish_synkler_using_subcommand init" -l cleanup-move -d 'Directory to which each delivered item moves, on upload and download' -r -f -a "(__fish_complete_directories)"
complete -c synkler -n "__fish_synkler_using_subcommand init" -l cleanup-script -d 'Command to run for each delivered item, on upload and download' -r
complete -c synkler -n "__fish_synkler_using_subcommand init" -s c -l config -d 'Read only this config file' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand init" -l tls -d 'Connect to the broker with TLS'
complete -c synkler -n "__fish_synkler_using_subcommand init" -l cleanup-delete -d 'Delete each delivered item, on upload and download'
complete -c synkler -n "__fish_synkler_using_subcommand init" -l make-dir -d 'Create the directory for the user of the service, if it does not exist'
complete -c synkler -n "__fish_synkler_using_subcommand init" -l force -d 'Overwrite a config file that already sets keys'
complete -c synkler -n "__fish_synkler_using_subcommand init" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synkler -n "__fish_synkler_using_subcommand broker-setup" -l id -d 'Group id of the nodes' -r
complete -c synkler -n "__fish_synkler_using_subcommand broker-setup" -l vhost -d 'Virtual host on the broker; created if it does not exist' -r
complete -c synkler -n "__fish_synkler_using_subcommand broker-setup" -l password-file -d 'File with the password, for exactly one node, instead of a generated one; - reads standard input' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand broker-setup" -s c -l config -d 'Read only this config file' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand broker-setup" -l apply -d 'Run the commands instead of printing them'
complete -c synkler -n "__fish_synkler_using_subcommand broker-setup" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synkler -n "__fish_synkler_using_subcommand drop-in" -l also -d 'Also give access to these paths, for the cleanup script' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand drop-in" -l as -d 'Run the service as this existing user; for uploads and downloads' -r
complete -c synkler -n "__fish_synkler_using_subcommand drop-in" -s c -l config -d 'Read only this config file' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand drop-in" -l read-others -d 'Let an upload read the files of every user (CAP_DAC_READ_SEARCH)'
complete -c synkler -n "__fish_synkler_using_subcommand drop-in" -l apply -d 'Install the drop-in as paths.conf where systemd reads it, replacing an older one'
complete -c synkler -n "__fish_synkler_using_subcommand drop-in" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synkler -n "__fish_synkler_using_subcommand keys" -l spool -d 'Spool that the key may access: file_dir and id of central, such as /srv/synkler/default' -r
complete -c synkler -n "__fish_synkler_using_subcommand keys" -s c -l config -d 'Read only this config file' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand keys" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synkler -n "__fish_synkler_using_subcommand trust" -l port -d 'Port of sshd on central' -r
complete -c synkler -n "__fish_synkler_using_subcommand trust" -l fingerprint -d 'Do not ask; accept only the host key with this fingerprint' -r
complete -c synkler -n "__fish_synkler_using_subcommand trust" -s c -l config -d 'Read only this config file' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand trust" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synkler -n "__fish_synkler_using_subcommand gate" -l rsync -d 'Path of the rsync program' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand gate" -s c -l config -d 'Read only this config file' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand gate" -l no-landlock -d 'Run without Landlock if the kernel lacks it; the owner of the key is then trusted to stay in the spool'
complete -c synkler -n "__fish_synkler_using_subcommand gate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synkler -n "__fish_synkler_using_subcommand help; and not __fish_seen_subcommand_from check init broker-setup drop-in keys trust gate help" -f -a "check" -d 'Check this node and print the findings as JSON'
complete -c synkler -n "__fish_synkler_using_subcommand help; and not __fish_seen_subcommand_from check init broker-setup drop-in keys trust gate help" -f -a "init" -d 'Write the config of this node and print the next steps'
complete -c synkler -n "__fish_synkler_using_subcommand help; and not __fish_seen_subcommand_from check init broker-setup drop-in keys trust gate help" -f -a "broker-setup" -d 'Create a broker account with minimal permissions for each node'
complete -c synkler -n "__fish_synkler_using_subcommand help; and not __fish_seen_subcommand_from check init broker-setup drop-in keys trust gate help" -f -a "drop-in" -d 'Print the systemd drop-in that gives the service access to the paths in the config'
complete -c synkler -n "__fish_synkler_using_subcommand help; and not __fish_seen_subcommand_from check init broker-setup drop-in keys trust gate help" -f -a "keys" -d 'Create the SSH key pair of this node and print the line for authorized_keys on central'
complete -c synkler -n "__fish_synkler_using_subcommand help; and not __fish_seen_subcommand_from check init broker-setup drop-in keys trust gate help" -f -a "trust" -d 'Show central\'s SSH host keys and add them to known_hosts'
complete -c synkler -n "__fish_synkler_using_subcommand help; and not __fish_seen_subcommand_from check init broker-setup drop-in keys trust gate help" -f -a "gate" -d 'Run a node\'s rsync in one spool on central; this is the forced command in authorized_keys'
complete -c synkler -n "__fish_synkler_using_subcommand help; and not __fish_seen_subcommand_from check init broker-setup drop-in keys trust gate help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
