#!/usr/bin/env bash
# Measures smtpmta beside Postfix, Exim and OpenSMTPD, alike: see README.md. On Debian 12 or 13, as root.
#
#   benches/peers.sh            the whole matrix, then benches/RESULTS.md
#   benches/peers.sh --quick    a part of it, in about two minutes, once the peers are set up
#   benches/peers.sh --rows relay,latency --peers postfix --reps 3
#   benches/peers.sh --smtpmta old=BINARY,new=BINARY
#
# Sets up what is missing: a chroot for each peer with Debian's packages, in $PEERS_DIR. Everything runs in namespaces of
# its own, with a loopback of its own: nothing leaves this machine, no port can be taken, and all ends with this script.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=$(realpath -m "${PEERS_DIR:-$HOME/.cache/smtpmta-peers}")
peers=postfix,exim,opensmtpd
rows=path
export DEBIAN_FRONTEND=noninteractive

fail() {
    echo "peers.sh: $*" >&2
    exit 1
}

[ "$(id -u)" -eq 0 ] || fail "it makes chroots and namespaces, and needs to be root"
for word; do
    case ${last:-} in
    --peers) peers=$word ;;
    --rows) rows=$word ;;
    esac
    last=$word
done

# tool COMMAND PACKAGE: installs the package if the command is missing.
tool() {
    command -v "$1" >/dev/null || apt-get install -qq -y --no-install-recommends "$2" || fail "$1 is missing: install $2"
}

# base: a minimal Debian, of this machine's release, mirror and lists of packages, which is copied for each peer.
base() {
    [ -f "$home/_base/.done" ] && return
    tool debootstrap debootstrap
    # shellcheck source=/dev/null
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    # Either of them may be missing.
    mirror=$({ cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources 2>/dev/null || true; } | awk '
        !mirror && $1 == "URIs:" { mirror = $2 }
        !mirror && $1 == "deb" { for (i = NF; i > 1; i--) if ($i ~ /^http/) mirror = $i }
        END { print mirror }')
    rm -rf --one-file-system "$home/_base"
    debootstrap --variant=minbase "$release" "$home/_base" "${mirror:-http://deb.debian.org/debian}"
    rm -f "$home/_base/etc/apt/sources.list"
    for list in sources.list sources.list.d apt.conf.d; do
        [ ! -e "/etc/apt/$list" ] || cp -a "/etc/apt/$list" "$home/_base/etc/apt/"
    done
    # Nothing is started by being installed.
    printf '#!/bin/sh\nexit 101\n' >"$home/_base/usr/sbin/policy-rc.d"
    chmod +x "$home/_base/usr/sbin/policy-rc.d"
    cp /etc/resolv.conf "$home/_base/etc/resolv.conf"
    chroot "$home/_base" apt-get update -qq
    touch "$home/_base/.done"
}

# peer NAME PACKAGE...: a chroot with these packages, which resolves no names.
peer() {
    local root=$home/$1 name=$1
    shift
    [ -f "$root/.installed" ] && return
    base
    echo "setting up $name"
    rm -rf --one-file-system "$root"
    cp -a "$home/_base" "$root"
    echo "$name.bench.test" >"$root/etc/mailname"
    echo "postfix postfix/main_mailer_type select No configuration" | chroot "$root" debconf-set-selections
    chroot "$root" apt-get install -qq -y --no-install-recommends "$@"
    printf 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n' >"$root/etc/resolv.conf"
    printf '127.0.0.1 localhost %s.bench.test\n' "$name" >"$root/etc/hosts"
    local device
    for device in "null 3" "zero 5" "random 8" "urandom 9"; do
        [ -c "$root/dev/${device% *}" ] || mknod -m 666 "$root/dev/${device% *}" c 1 "${device#* }"
    done
    touch "$root/.installed"
}

mkdir -p "$home/_native"
exec 9>"$home/_lock"
flock -n 9 || fail "another run uses $home"
for root in /proc/[0-9]*/root; do
    case $(readlink "$root" 2>/dev/null) in
    "$home"/*) fail "$(dirname "$root"): a process in a chroot of $home already runs" ;;
    esac
done

tool ip iproute2
tool unshare util-linux
tool cc build-essential
command -v cargo >/dev/null || fail "Rust is missing: https://rustup.rs"
for name in ${peers//,/ }; do
    case $name in
    postfix) peer postfix postfix ;;
    exim) peer exim exim4-daemon-light exim4-base ;;
    opensmtpd) peer opensmtpd opensmtpd ;;
    none) ;;
    *) fail "--peers $name: not known" ;;
    esac
done
# The far host of the long path.
case $rows in *path*) peer postfix-rx postfix ;; esac

cc -O2 -shared -fPIC -o "$home/_native/listen-backlog.so" "$here/peers/native/listen-backlog.c" -ldl
cc -O2 -o "$home/_native/with-tun" "$here/peers/native/with-tun.c"
if [ -d "$home/opensmtpd" ]; then
    cp "$home/_native/listen-backlog.so" "$home/opensmtpd/usr/local/lib/"
fi

cd "$here/.."
bench=$(cargo bench --quiet --bench peers --no-run --message-format=json |
    sed -n 's/.*"name":"peers".*"executable":"\([^"]*\)".*/\1/p')
[ -x "$bench" ] || fail "the benchmark was not built"

# As many descriptors as there may be, but no more than servers that close them one by one can stand.
most=$(ulimit -Hn)
if [ "$most" = unlimited ] || [ "$most" -gt 20000 ]; then most=20000; fi
ulimit -n "$most"

# With the first process of the namespaces all the others end. The control groups in which the servers were counted
# can be removed when they are empty.
end() {
    kill -KILL "$inner" 2>/dev/null || true
    wait "$inner" 2>/dev/null || true
    local left
    for _ in $(seq 50); do
        left=$(echo /sys/fs/cgroup/smtpmta-bench.* /sys/fs/cgroup/cpuacct/smtpmta-bench.* | tr ' ' '\n' | grep -v '\*' || true)
        [ -n "$left" ] || return 0
        # shellcheck disable=SC2086
        rmdir $left 2>/dev/null || sleep 0.1
    done
}

export home bench
unshare --net --pid --mount --fork --kill-child --mount-proc bash -c '
    ip link set lo up
    # As large as systemd makes it: whoever writes to a full log waits.
    sysctl -qw net.unix.max_dgram_qlen=512
    # What most hosts have. One that paces its packets would measure itself on the long path.
    sysctl -qw net.ipv4.tcp_congestion_control=cubic 2>/dev/null || sysctl -qw net.ipv4.tcp_congestion_control=reno
    # Nothing remembers the path of the cell before.
    sysctl -qw net.ipv4.tcp_no_metrics_save=1
    for root in "$home"/*/etc/mailname; do
        mount -t proc proc "${root%/etc/mailname}/proc"
    done
    tun=
    if ip tuntap add dev path mode tun 2>/dev/null; then
        ip addr add 10.77.0.1/24 dev path
        ip link set path up mtu 1500
        tun="$home/_native/with-tun path"
    else
        echo "peers.sh: no tun device: the rows of the long path will fail" >&2
    fi
    # Not exec: the first process of a namespace has to wait for those that lost their parent.
    $tun "$bench" run --home "$home" "$@" 9>&-
' peers.sh "$@" &
inner=$!
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
wait "$inner"
