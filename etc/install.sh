#!/bin/sh
# Installs smtpmta as a service, or removes it again.
#
#   cargo build --release
#   etc/install.sh install
#   etc/install.sh uninstall
#
# PREFIX is where it goes (/usr/local), DESTDIR a folder in which all of that is laid (for packages: nothing is done to
# this machine then). What was changed in /etc/smtpmta is never overwritten or removed; the spool is never touched.
set -eu

PREFIX=${PREFIX:-/usr/local}
DESTDIR=${DESTDIR:-}
SBINDIR=${SBINDIR:-$PREFIX/sbin}
BINDIR=${BINDIR:-$PREFIX/bin}
MANDIR=${MANDIR:-$PREFIX/share/man}
SYSCONFDIR=/etc
SPOOL=/var/spool/smtpmta
USER_NAME=smtpmta

here=$(cd "$(dirname "$0")/.." && pwd)
# CARGO_TARGET_DIR is where cargo builds, if it is set.
binary=${BINARY:-${CARGO_TARGET_DIR:-$here/target}/release/smtpmta}

# What is installed is for everybody to read, whoever installs it.
umask 022

say() {
    printf '%s\n' "$*"
}

fail() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

# Units, links and scripts would have to quote anything else.
case $PREFIX$SBINDIR$BINDIR$MANDIR in
*[!A-Za-z0-9_./+-]*) fail "PREFIX, SBINDIR, BINDIR, MANDIR: expected letters, digits and _ . / + - only" ;;
esac

# put MODE FROM TO: a file, with the path of the program put in.
put() {
    to=$DESTDIR$3
    mkdir -p "$(dirname "$to")"
    sed "s|/usr/sbin/smtpmta|$SBINDIR/smtpmta|g" "$2" >"$to.new"
    chmod "$1" "$to.new"
    mv -f "$to.new" "$to"
}

# link TARGET NAME: a name of the program, or of its manual page. What is somebody else's is left alone.
link() {
    name=$DESTDIR$2
    mkdir -p "$(dirname "$name")"
    if { [ -e "$name" ] || [ -L "$name" ]; } && [ "$(readlink "$name" || true)" != "$1" ]; then
        case $2 in
        *.[0-9]) say "$2 is somebody else's and stays as it is" ;;
        *) say "$2 is somebody else's and stays as it is; smtpmta's own is \`smtpmta ${2##*/}\`" ;;
        esac
        return
    fi
    ln -sfn "$1" "$name"
}

# unlink_ours TARGET NAME
unlink_ours() {
    if [ "$(readlink "$DESTDIR$2" || true)" = "$1" ]; then
        rm -f "$DESTDIR$2"
        prune "$2"
    fi
}

# prune NAME: the folders that this was the last one in, but for those that every machine has.
prune() {
    folder=$(dirname "$1")
    while :; do
        case $folder in
        / | /usr/sbin | /usr/lib | "$SYSCONFDIR" | "$SYSCONFDIR/init.d" | "$SYSCONFDIR/logrotate.d") break ;;
        "$PREFIX" | "$PREFIX/share" | "$PREFIX/lib" | "$PREFIX/etc" | "$SBINDIR" | "$BINDIR" | "$MANDIR") break ;;
        esac
        rmdir "$DESTDIR$folder" 2>/dev/null || break
        folder=$(dirname "$folder")
    done
}

# All names of the program, and of its manual page: TARGET NAME, a line each. Cron and others look for sendmail in /usr.
links() {
    cat <<END
smtpmta $SBINDIR/sendmail
$SBINDIR/smtpmta $BINDIR/mailq
$SBINDIR/smtpmta $BINDIR/newaliases
smtpmta-sendmail.8 $MANDIR/man8/sendmail.8
../man8/smtpmta-sendmail.8 $MANDIR/man1/mailq.1
../man8/smtpmta-sendmail.8 $MANDIR/man1/newaliases.1
END
    for name in /usr/sbin/sendmail /usr/lib/sendmail; do
        if [ "$name" != "$SBINDIR/sendmail" ]; then
            printf '%s %s\n' "$SBINDIR/smtpmta" "$name"
        fi
    done
}

manuals() {
    for page in "$here"/man/*.[0-9]; do
        printf '%s\n' "${page##*/}"
    done
}

# All files that are the same everywhere: FROM MODE TO, a line each.
files() {
    cat <<END
etc/smtpmta.service 644 $PREFIX/lib/systemd/system/smtpmta.service
etc/smtpmta.socket 644 $PREFIX/lib/systemd/system/smtpmta.socket
etc/smtpmta.sysusers 644 $PREFIX/lib/sysusers.d/smtpmta.conf
etc/smtpmta.tmpfiles 644 $PREFIX/lib/tmpfiles.d/smtpmta.conf
etc/completions/smtpmta.bash 644 $PREFIX/share/bash-completion/completions/smtpmta
etc/completions/smtpmta.zsh 644 $PREFIX/share/zsh/site-functions/_smtpmta
etc/completions/smtpmta.fish 644 $PREFIX/share/fish/vendor_completions.d/smtpmta.fish
etc/smtpmta.conf 644 $SYSCONFDIR/smtpmta/smtpmta.conf.example
END
    for page in $(manuals); do
        printf 'man/%s 644 %s/man%s/%s\n' "$page" "$MANDIR" "${page##*.}" "$page"
    done
    if [ -x /sbin/openrc-run ]; then
        printf 'etc/smtpmta.openrc 755 %s/init.d/smtpmta\n' "$SYSCONFDIR"
    fi
    if [ -f /etc/rc.subr ]; then
        printf 'etc/smtpmta.rc 755 %s/etc/rc.d/smtpmta\n' "$PREFIX"
    fi
}

# Those that people change: FROM TO.
settings() {
    cat <<END
etc/service.conf $SYSCONFDIR/smtpmta/smtpmta.conf
etc/smtpmta.logrotate $SYSCONFDIR/logrotate.d/smtpmta
END
}

# The user, and the spool that belongs to it.
prepare_machine() {
    if ! id "$USER_NAME" >/dev/null 2>&1; then
        if command -v useradd >/dev/null; then
            useradd --system --user-group --home-dir "$SPOOL" --no-create-home --shell /usr/sbin/nologin "$USER_NAME"
        elif command -v adduser >/dev/null && [ -f /etc/alpine-release ]; then
            addgroup -S "$USER_NAME"
            adduser -S -D -H -h "$SPOOL" -s /sbin/nologin -G "$USER_NAME" "$USER_NAME"
        elif command -v pw >/dev/null; then
            pw useradd "$USER_NAME" -d "$SPOOL" -s /usr/sbin/nologin
        else
            fail "make a user $USER_NAME first: nothing here can"
        fi
        say "made the user $USER_NAME"
    fi
    if [ ! -d "$SPOOL" ]; then
        # With the place where programs leave mail, as the MTA makes it at its first start, so that they need not wait.
        mkdir -p "$SPOOL/maildrop"
        chown "$USER_NAME" "$SPOOL" "$SPOOL/maildrop"
        chgrp "$(id -gn "$USER_NAME")" "$SPOOL" "$SPOOL/maildrop"
        chmod 3733 "$SPOOL/maildrop"
        chmod 711 "$SPOOL"
        say "made the spool $SPOOL"
    fi
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload
    fi
}

install_all() {
    [ -x "$binary" ] || fail "$binary is not there: cargo build --release"
    if [ -z "$DESTDIR" ] && [ "$(id -u)" -ne 0 ]; then
        fail "only root can do that; or set DESTDIR"
    fi
    mkdir -p "$DESTDIR$SBINDIR"
    # The one that runs keeps running.
    cp "$binary" "$DESTDIR$SBINDIR/smtpmta.new"
    chmod 755 "$DESTDIR$SBINDIR/smtpmta.new"
    mv -f "$DESTDIR$SBINDIR/smtpmta.new" "$DESTDIR$SBINDIR/smtpmta"
    links | while read -r target name; do
        link "$target" "$name"
    done
    files | while read -r from mode to; do
        put "$mode" "$here/$from" "$to"
    done
    settings | while read -r from to; do
        if [ ! -e "$DESTDIR$to" ]; then
            put 644 "$here/$from" "$to"
        elif ! cmp -s "$here/$from" "$DESTDIR$to"; then
            say "$to was changed, and stays as it is"
        fi
    done
    if [ -z "$DESTDIR" ]; then
        prepare_machine
        say "smtpmta is installed. Look at $SYSCONFDIR/smtpmta/smtpmta.conf, and start it:"
        if [ -d /run/systemd/system ]; then
            say "    systemctl enable --now smtpmta"
        elif [ -x /sbin/openrc-run ]; then
            say "    rc-update add smtpmta && rc-service smtpmta start"
        elif [ -f /etc/rc.subr ]; then
            say "    sysrc smtpmta_enable=YES && service smtpmta start"
        else
            say "    $SBINDIR/smtpmta --daemon --pid-file /run/smtpmta.pid"
        fi
    fi
}

uninstall_all() {
    # Another PREFIX, or a package, may be what the rest belongs to.
    [ -e "$DESTDIR$SBINDIR/smtpmta" ] || fail "nothing is installed in $SBINDIR: is PREFIX another one?"
    if [ -z "$DESTDIR" ]; then
        if [ -d /run/systemd/system ]; then
            systemctl disable --now smtpmta.service smtpmta.socket 2>/dev/null || true
        elif [ -x /sbin/openrc-run ] && [ -x "$SYSCONFDIR/init.d/smtpmta" ]; then
            rc-service --ifstarted smtpmta stop || true
            rc-update --all del smtpmta 2>/dev/null || true
        fi
        if [ -S "$SPOOL/control.sock" ] && [ -x "$SBINDIR/smtpmta" ]; then
            "$SBINDIR/smtpmta" --spool "$SPOOL" tell quit 2>/dev/null || true
        fi
        # The MTA itself may not, for the folder is root's.
        rm -f /run/smtpmta.pid
    fi
    links | while read -r target name; do
        unlink_ours "$target" "$name"
    done
    rm -f "$DESTDIR$SBINDIR/smtpmta"
    files | while read -r from mode to; do
        rm -f "$DESTDIR$to"
        prune "$to"
    done
    settings | while read -r from to; do
        if cmp -s "$here/$from" "$DESTDIR$to"; then
            rm -f "$DESTDIR$to"
            prune "$to"
        elif [ -e "$DESTDIR$to" ]; then
            say "$to was changed, and is left"
        fi
    done
    if [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]; then
        systemctl daemon-reload
    fi
    if [ -z "$DESTDIR" ] && [ -d "$SPOOL" ]; then
        say "the spool $SPOOL and the user $USER_NAME are left, for there may be mail"
    fi
}

case ${1:-} in
install) install_all ;;
uninstall) uninstall_all ;;
*)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit 64
    ;;
esac
