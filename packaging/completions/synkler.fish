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
complete -c synkler -n "__fish_synkler_needs_command" -f -a "keys" -d 'Make the key with which this node logs in to central, and print the line for central\'s authorized_keys'
complete -c synkler -n "__fish_synkler_needs_command" -f -a "trust" -d 'Show the host keys of central and have this node believe them from now on'
complete -c synkler -n "__fish_synkler_needs_command" -f -a "gate" -d 'Let a node\'s rsync into one spool on central: the forced command in authorized_keys'
complete -c synkler -n "__fish_synkler_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c synkler -n "__fish_synkler_using_subcommand check" -s c -l config -d 'Read this config file and no other' -r -F
complete -c synkler -n "__fish_synkler_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
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
complete -c synkler -n "__fish_synkler_using_subcommand help; and not __fish_seen_subcommand_from check keys trust gate help" -f -a "check" -d 'Examine this node from end to end and print the findings as JSON'
complete -c synkler -n "__fish_synkler_using_subcommand help; and not __fish_seen_subcommand_from check keys trust gate help" -f -a "keys" -d 'Make the key with which this node logs in to central, and print the line for central\'s authorized_keys'
complete -c synkler -n "__fish_synkler_using_subcommand help; and not __fish_seen_subcommand_from check keys trust gate help" -f -a "trust" -d 'Show the host keys of central and have this node believe them from now on'
complete -c synkler -n "__fish_synkler_using_subcommand help; and not __fish_seen_subcommand_from check keys trust gate help" -f -a "gate" -d 'Let a node\'s rsync into one spool on central: the forced command in authorized_keys'
complete -c synkler -n "__fish_synkler_using_subcommand help; and not __fish_seen_subcommand_from check keys trust gate help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
