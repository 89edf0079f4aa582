# Completion of smtpmta for bash.
_smtpmta() {
    local commands options
# BEGIN GENERATED from src/config/flags.rs: UPDATE_GENERATED=1 cargo test --test all
commands='show tell passwd sink queue verify backup trace why route session sendmail mailq newaliases doctor'
options='--help --version --config --check --spool --hostname --listen --listen-submission --listen-submissions --max-inbound-handlers --max-sessions-per-client --session-timeout --max-message-size --max-recipients --max-hops --local-domain --relay-from --accounts --aliases --any-sender --mail-dir --lmtp --max-outbound-handlers --relay-host --route --relay-auth --smtp-port --dns --allow-next-hop --poll-interval --list-messages --per-next-hop --hop-rate --retry-schedule --expire --delay-warning --tls-cert --tls-key --tls-outbound --tls-ca --housekeeping --keep-history --log-level --log-file --syslog --log-json --http --pid-file --daemon --user --group --sandbox'
# END GENERATED
    local word=${COMP_WORDS[COMP_CWORD]} given known
    for given in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        for known in $commands; do
            if [ "$given" = "$known" ]; then
                # Behind a command stand its own words, and files.
                return
            fi
        done
    done
    case $word in
    -*) mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word") ;;
    *) mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$word") ;;
    esac
}
complete -o default -F _smtpmta smtpmta
