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

complete -c synkler -n "__fish_synkler_needs_command" -s c -l config -d 'Read this config file and no other' -r -F
complete -c synkler -n "__fish_synkler_needs_command" -s v -l verbose -d 'Accepted from older command lines: what it asked for is logged anyway'
complete -c synkler -n "__fish_synkler_needs_command" -s d -l debug -d 'Log what only a developer wants to know'
complete -c synkler -n "__fish_synkler_needs_command" -l check -d 'Print the settings in force and where each came from, then end'
complete -c synkler -n "__fish_synkler_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synkler -n "__fish_synkler_needs_command" -s V -l version -d 'Print version'
complete -c synkler -n "__fish_synkler_needs_command" -f -a "check" -d 'Examine this node from end to end and print the findings as JSON'
complete -c synkler -n "__fish_synkler_needs_command" -f -a "init" -d 'Write this node\'s config, and say what is to be done next'
complete -c synkler -n "__fish_synkler_needs_command" -f -a "broker-setup" -d 'Make an account at the broker for each node, which can say and hear what its role needs and nothing else'
complete -c synkler -n "__fish_synkler_needs_command" -f -a "drop-in" -d 'Print the systemd drop-in that opens the service\'s box for what the config names'
complete -c synkler -n "__fish_synkler_needs_command" -f -a "keys" -d 'Make the key with which this node logs in to central, and print the line for central\'s authorized_keys'
complete -c synkler -n "__fish_synkler_needs_command" -f -a "trust" -d 'Show the host keys of central and have this node believe them from now on'
complete -c synkler -n "__fish_synkler_needs_command" -f -a "gate" -d 'Let a node\'s rsync into one spool on central: the forced command in authorized_keys'
complete -c synkler -n "__fish_synkler_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c synkler -n "__fish_synkler_using_subcommand check" -s c -l config -d 'Read this config file and no other' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synkler -n "__fish_synkler_using_subcommand init" -l file-dir -d 'The directory that is watched (upload), the spool (central) or the destination (download)' -r -f -a "(__fish_complete_directories)"
complete -c synkler -n "__fish_synkler_using_subcommand init" -l server -d 'Host name or address of the broker' -r
complete -c synkler -n "__fish_synkler_using_subcommand init" -l id -d 'The group [default: default]' -r
complete -c synkler -n "__fish_synkler_using_subcommand init" -l name -d 'This node\'s name [default: the host name]' -r
complete -c synkler -n "__fish_synkler_using_subcommand init" -l central-host -d 'Where central is reached by ssh [default: on central synkler at the host name, else the broker\'s host]' -r
complete -c synkler -n "__fish_synkler_using_subcommand init" -l vhost -d 'The virtual host at the broker [default: /]' -r
complete -c synkler -n "__fish_synkler_using_subcommand init" -l username -d 'The account at the broker [default: the one that broker-setup makes for this node]' -r
complete -c synkler -n "__fish_synkler_using_subcommand init" -l password-file -d 'A file with the account\'s password, on one line; - is standard input' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand init" -l ca-file -d 'The authorities that the broker\'s certificate may be of, in PEM; with it goes --tls' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand init" -l cleanup-script -d 'What to run for an item that is through, on upload and download' -r
complete -c synkler -n "__fish_synkler_using_subcommand init" -s c -l config -d 'Read this config file and no other' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand init" -l tls -d 'Speak to the broker by TLS'
complete -c synkler -n "__fish_synkler_using_subcommand init" -l make-dir -d 'Make the directory, for the service\'s user, if it is not there'
complete -c synkler -n "__fish_synkler_using_subcommand init" -l force -d 'Replace a config that sets something already'
complete -c synkler -n "__fish_synkler_using_subcommand init" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synkler -n "__fish_synkler_using_subcommand broker-setup" -l id -d 'Their group' -r
complete -c synkler -n "__fish_synkler_using_subcommand broker-setup" -l vhost -d 'The virtual host, which is made if it is not there' -r
complete -c synkler -n "__fish_synkler_using_subcommand broker-setup" -l password-file -d 'A file with the password of the one node named, instead of a generated one; - is standard input' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand broker-setup" -s c -l config -d 'Read this config file and no other' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand broker-setup" -l apply -d 'Run the commands instead of printing them'
complete -c synkler -n "__fish_synkler_using_subcommand broker-setup" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synkler -n "__fish_synkler_using_subcommand drop-in" -l also -d 'Open these too, for what a cleanup script touches' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand drop-in" -s c -l config -d 'Read this config file and no other' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand drop-in" -l apply -d 'Put it where systemd reads it, as paths.conf, in place of what is there'
complete -c synkler -n "__fish_synkler_using_subcommand drop-in" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synkler -n "__fish_synkler_using_subcommand keys" -l spool -d 'The spool that the key opens: file_dir and id as central has them, such as /srv/synkler/default' -r
complete -c synkler -n "__fish_synkler_using_subcommand keys" -s c -l config -d 'Read this config file and no other' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand keys" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synkler -n "__fish_synkler_using_subcommand trust" -l port -d 'The port of its sshd' -r
complete -c synkler -n "__fish_synkler_using_subcommand trust" -l fingerprint -d 'Do not ask: believe the key with this fingerprint and no other' -r
complete -c synkler -n "__fish_synkler_using_subcommand trust" -s c -l config -d 'Read this config file and no other' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand trust" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synkler -n "__fish_synkler_using_subcommand gate" -l rsync -d 'The rsync program' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand gate" -s c -l config -d 'Read this config file and no other' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand gate" -l no-landlock -d 'Go on where the kernel has no Landlock: whoever has the key is then trusted to stay in the spool'
complete -c synkler -n "__fish_synkler_using_subcommand gate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synkler -n "__fish_synkler_using_subcommand help; and not __fish_seen_subcommand_from check init broker-setup drop-in keys trust gate help" -f -a "check" -d 'Examine this node from end to end and print the findings as JSON'
complete -c synkler -n "__fish_synkler_using_subcommand help; and not __fish_seen_subcommand_from check init broker-setup drop-in keys trust gate help" -f -a "init" -d 'Write this node\'s config, and say what is to be done next'
complete -c synkler -n "__fish_synkler_using_subcommand help; and not __fish_seen_subcommand_from check init broker-setup drop-in keys trust gate help" -f -a "broker-setup" -d 'Make an account at the broker for each node, which can say and hear what its role needs and nothing else'
complete -c synkler -n "__fish_synkler_using_subcommand help; and not __fish_seen_subcommand_from check init broker-setup drop-in keys trust gate help" -f -a "drop-in" -d 'Print the systemd drop-in that opens the service\'s box for what the config names'
complete -c synkler -n "__fish_synkler_using_subcommand help; and not __fish_seen_subcommand_from check init broker-setup drop-in keys trust gate help" -f -a "keys" -d 'Make the key with which this node logs in to central, and print the line for central\'s authorized_keys'
complete -c synkler -n "__fish_synkler_using_subcommand help; and not __fish_seen_subcommand_from check init broker-setup drop-in keys trust gate help" -f -a "trust" -d 'Show the host keys of central and have this node believe them from now on'
complete -c synkler -n "__fish_synkler_using_subcommand help; and not __fish_seen_subcommand_from check init broker-setup drop-in keys trust gate help" -f -a "gate" -d 'Let a node\'s rsync into one spool on central: the forced command in authorized_keys'
complete -c synkler -n "__fish_synkler_using_subcommand help; and not __fish_seen_subcommand_from check init broker-setup drop-in keys trust gate help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
