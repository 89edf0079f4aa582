# Completion of smtpmta for bash.
_smtpmta() {
    local commands options
# BEGIN GENERATED from src/config/flags.rs: UPDATE_GENERATED=1 cargo test --test all
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
