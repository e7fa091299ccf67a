# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_smarter_cni_global_optspecs
    string join \n h/help V/version
end

function __fish_smarter_cni_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_smarter_cni_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_smarter_cni_using_subcommand
    set -l cmd (__fish_smarter_cni_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c smarter-cni -n "__fish_smarter_cni_needs_command" -s h -l help -d 'Print help'
complete -c smarter-cni -n "__fish_smarter_cni_needs_command" -s V -l version -d 'Print version'
complete -c smarter-cni -n "__fish_smarter_cni_needs_command" -f -a "reconcile" -d 'Bring back what attached pods were promised, and remove what no pod wants'
complete -c smarter-cni -n "__fish_smarter_cni_needs_command" -f -a "install" -d 'Put the plugins and the network\'s configuration on this node'
complete -c smarter-cni -n "__fish_smarter_cni_needs_command" -f -a "uninstall" -d 'Take everything of smarter-cni away from this node'
complete -c smarter-cni -n "__fish_smarter_cni_needs_command" -f -a "doctor" -d 'Say what is wrong with this node\'s pod network, and what to do about it; changes nothing without --fix'
complete -c smarter-cni -n "__fish_smarter_cni_needs_command" -f -a "selftest" -d 'Attach two throw-away pods with the default configuration and prove that bytes arrive'
complete -c smarter-cni -n "__fish_smarter_cni_needs_command" -f -a "dns" -d 'Serve the names of this node\'s pods to them and to this node, and ask upstream for all others'
complete -c smarter-cni -n "__fish_smarter_cni_needs_command" -f -a "status" -d 'Show attached pods, their addresses and ports of the node, and how much of each pool is used'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand reconcile" -l network -d 'Only the attachments of this network; what pods of all networks share is then not swept' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand reconcile" -l root -d 'Where the host\'s / is, in a container that has it mounted' -r -F
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand reconcile" -l dry-run -d 'Print the steps and make none of them'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand reconcile" -l json -d 'Print one JSON object: {"version":1,"dry_run",…,"changes":[…],"failures":[…],"notes":[…]}'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand reconcile" -s h -l help -d 'Print help'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -l subnet -d 'Range of the pods, which must be the cluster\'s cluster-cidr. One IPv4 network, one IPv6 network, or one of each with a comma; `auto` picks a free IPv4 one [default: 172.38.0.0/16]' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -l gateway -d 'Address of the bridge, one for each range [default: the first of the range]' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -l mtu -d 'Bytes, or `auto`: that of the default route\'s uplink [default: what the kernel gives a bridge]' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -l hairpin -d 'A pod reaches itself through its host port [default: true]' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -l masquerade -d 'Packets that leave the range get the uplink\'s address [default: true]' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -l forward-others -d 'Where forwarding is on because of pods, uplinks reach each other through the node too [default: false]' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -l dns -d 'Where pods ask the node\'s name server, beside the gateway, such as 169.254.0.2, or off [default: off]' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -l dns-intercept -d 'What pods ask of other name servers is asked of the node\'s [default: false]' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -l host-dns -d 'Programs of the node find pods, too: tells its own resolver to ask there for names of this domain, by a file of ours that `uninstall` takes back. `off`, or cluster.local where no domain is named [default: off]' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -l host-ports -d 'Pods can have ports of the node [default: true]' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -l host-port-snat -d 'Masquerade clients of host ports that need it, and open 127.0.0.1 [default: true]' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -l host-port-strict -d 'A process of the node on a wanted port is an error instead of a warning [default: false]' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -l host-port-interfaces -d 'Host ports answer only through these interfaces: names or beginnings such as lan*' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -l deny-host-port-interfaces -d 'Host ports do not answer through these, such as wwan*,ppp*' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -l network -d 'Name of the network [default: smartnet]' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -l bridge -d 'Name of the bridge [default: smartnet0]' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -l log-level -d 'How much the plugins log to /run/smarter-cni/log: off, error, warn, info or debug [default: info]' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -l bin-dir -d 'Where the plugins go, as the host sees it; several with commas [default: where the node\'s runtimes look]' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -l conf-dir -d 'Where the configuration goes, as the host sees it; several with commas [default: where the runtimes look]' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -l root -d 'Where the host\'s / is mounted; everything is read and written below it [default: /]' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -l take-over -d 'Move configurations out of the way that a runtime would take instead of ours; uninstall gives them back'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -l dry-run -d 'Print what would be done, and do nothing'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -l json -d 'Print one JSON object'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -l watch -d 'Stay, and repair what gets lost of the installation and of the pods\' network, until SIGTERM or SIGINT; leaves everything in place'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand install" -s h -l help -d 'Print help'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand uninstall" -l root -d 'Where the host\'s / is mounted; everything is read and removed below it [default: /]' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand uninstall" -l force -d 'Also while pods are attached: they lose their network, and the runtime cannot detach them'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand uninstall" -l wait -d 'Wait until the pods that are attached are gone, and go on at once; says whom it waits for'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand uninstall" -l stay -d 'When everything is gone, stay until SIGTERM or SIGINT: a container that ended would be started again'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand uninstall" -l dry-run -d 'Print what would be done, and do nothing'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand uninstall" -l json -d 'Print one JSON object'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand uninstall" -s h -l help -d 'Print help'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand doctor" -l explain -d 'Say what a check means, how it comes about and how to fix it' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand doctor" -l bundle -d 'Write a tar for whoever helps: report, state, rules, links, routes, configuration, log. `-` is standard output' -r -F
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand doctor" -l only -d 'Run these checks only: ids or groups, separated by commas. Not with --fix, which repairs more than one thing' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand doctor" -l skip -d 'Leave these checks out: ids or groups, separated by commas. What --fix repairs stays the same' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand doctor" -l root -d 'Where the host\'s / is' -r -F
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand doctor" -l conf-dir -d 'Where network configurations are; otherwise where this node\'s container runtimes read them' -r -F
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand doctor" -l bin-dir -d 'Where plugins are, as often as there are places; otherwise where the runtimes look for them' -r -F
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand doctor" -l pod-cidr -d 'The range that the cluster gave this node (podCIDR)' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand doctor" -s v -l verbose -d 'Also list what is fine and what does not apply'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand doctor" -l json -d 'Print one JSON object (docs/doctor.md describes it)'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand doctor" -l list -d 'List the checks, one id and title per line'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand doctor" -l fix -d 'Look, show what `smarter-cni reconcile` would do, do it, and look again: the exit code is that of the second look'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand doctor" -l redact -d 'In the bundle, give addresses, MACs and the host\'s name other names; the same ones to the same ones'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand doctor" -l strict -d 'Exit with 1 for warnings, too'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand doctor" -l probe -d 'Also send packets between pods, node and router (TCP, UDP, ICMP), of which some fill the MTU'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand selftest" -l json -d 'Print one JSON object: {"version":1,"passed":…,"steps":[{"name","passed","detail","milliseconds"}]}'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand selftest" -s h -l help -d 'Print help'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand dns" -l query -d 'Ask for a name, as a pod would; TYPE is A and AAAA unless said' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand dns" -l server -d 'Ask this server instead of the one of this node' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand dns" -l json -d 'Print one JSON object: {"version":1,"name",…,"status","answers":[…]}'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand dns" -s h -l help -d 'Print help'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand status" -l network -d 'Only this network' -r
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand status" -l root -d 'Where the host\'s / is, in a container that has it mounted' -r -F
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand status" -l names -d 'Show under which names pods are found, and whether a server answers them'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand status" -l json -d 'Print one JSON object: {"version":1,"networks":[{"name",…,"pools":[…],"attachments":[…]}],"unread":[…]}'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand status" -l watch -d 'Show it again whenever it changed, until interrupted'
complete -c smarter-cni -n "__fish_smarter_cni_using_subcommand status" -s h -l help -d 'Print help'
