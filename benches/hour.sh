#!/usr/bin/env bash
# Does anything grow with uptime? A steady load through one smtpmta for an hour, all of it relayed to a counting sink,
# with a row of figures a minute; then the queue drains, housekeeping runs, and the last row is taken.
#
#   benches/hour.sh [MESSAGES_A_SECOND [SECONDS]]        2000 and 3600, where nothing is said
#
# The history of a message is kept for a minute, and housekeeping runs every five, so that a week happens in an hour.
# On the loopback only. What is built: this tree, unless SMTPMTA and PEERS name the two binaries.
set -euo pipefail
cd "$(dirname "$0")/.."
rate=${1:-2000} seconds=${2:-3600}
ports=(2790 2792)

if [ -z "${SMTPMTA:-}" ]; then
    cargo build --release --quiet
    SMTPMTA=target/release/smtpmta
fi
if [ -z "${PEERS:-}" ]; then
    PEERS=$(cargo bench --bench peers --no-run 2>&1 | sed -n 's/.*(\(target[^)]*\)).*/\1/p')
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/hour.XXXXXX")
started=()
end() {
    for process in "${started[@]}"; do kill "$process" 2>/dev/null || true; done
    wait || true
    rm -rf "$work"
}
trap end EXIT

"$PEERS" sink --listen 127.0.0.1:${ports[0]} --every 3600 >"$work/sink" &
started+=($!)
"$SMTPMTA" --spool "$work/spool" --listen 127.0.0.1:${ports[1]} --relay-host 127.0.0.1:${ports[0]} \
    --keep-history 1m --log-file "$work/log" >"$work/out" </dev/null &
mta=$!
started+=("$mta")
until grep -q Listening "$work/out"; do
    kill -0 "$mta"
    sleep 0.1
done
"$PEERS" load --target 127.0.0.1:${ports[1]} --rate "$rate" --seconds "$seconds" --every 60 --sessions 20 >"$work/load" &
load=$!
started+=("$load")

console() { "$SMTPMTA" --spool "$work/spool" "$@"; }
size() { stat -c %s "$1" 2>/dev/null || echo 0; }
row() {
    awk -v minute="$1" -v db="$(size "$work/spool/queue.db")" -v wal="$(size "$work/spool/queue.db-wal")" \
        -v fds="$(ls "/proc/$mta/fd" | wc -l)" -v waiting="$2" -v latency="$(tail -n 1 "$work/load")" '
        /^Rss:/ { rss = $2 }
        END { printf "| %s | %.1f | %d | %.1f | %.1f | %s | %s |\n", minute, rss / 1024, fds, db / 1e6, wal / 1e6, waiting, latency }
    ' "/proc/$mta/smaps_rollup"
}
waiting() { console show --json stat | sed -n 's/.*"Mail.TotalPending": *\([0-9]*\).*/\1/p'; }

printf '%s messages of 4 KiB a second, for %s s\n\n' "$rate" "$seconds"
echo '| minute | memory, MiB | descriptors | queue.db, MB | its log, MB | waiting | the load of that minute |'
echo '|---|---|---|---|---|---|---|'
minute=0
while kill -0 "$load" 2>/dev/null; do
    row "$minute" "$(waiting)"
    minute=$((minute + 1))
    [ $((minute % 5)) -ne 0 ] || console tell housekeeping >/dev/null
    sleep 60 &
    wait -n "$load" $! || true
done
until [ "$(waiting)" = 0 ]; do sleep 1; done
row drained 0
sleep 61
console tell housekeeping >/dev/null
# What was forgotten leaves room behind, which is used again or given back.
sleep "${SETTLE:-60}"
row housekept "$(waiting)"
