# Completion of smtpmta for fish.
# BEGIN GENERATED from src/config/flags.rs: UPDATE_GENERATED=1 cargo test --test all
# END GENERATED
