#compdef smtpmta
# Completion of smtpmta for zsh.
local commands options
# BEGIN GENERATED from src/config/flags.rs: UPDATE_GENERATED=1 cargo test --test all
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
