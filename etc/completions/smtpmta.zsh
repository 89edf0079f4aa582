#compdef smtpmta
# Completion of smtpmta for zsh.
local commands options
# BEGIN GENERATED from src/config/flags.rs: UPDATE_GENERATED=1 cargo test --test all
commands='show tell passwd sink queue verify backup trace why route session sendmail mailq newaliases doctor'
options='--help --version --config --check --spool --hostname --listen --listen-submission --listen-submissions --max-inbound-handlers --max-sessions-per-client --session-timeout --max-message-size --max-recipients --max-hops --local-domain --relay-from --accounts --aliases --any-sender --mail-dir --lmtp --max-outbound-handlers --relay-host --route --relay-auth --smtp-port --dns --allow-next-hop --poll-interval --list-messages --per-next-hop --hop-rate --retry-schedule --expire --delay-warning --tls-cert --tls-key --tls-outbound --tls-ca --housekeeping --keep-history --log-level --log-file --syslog --log-json --http --pid-file --daemon --user --group --sandbox'
# END GENERATED
local given
for given in ${words[2,CURRENT-1]}; do
    if [[ " $commands " == *" $given "* ]]; then
        # Behind a command stand its own words, and files.
        _files
        return
    fi
done
if [[ $words[CURRENT] == -* ]]; then
    compadd -- ${=options}
else
    compadd -- ${=commands}
    _files
fi
