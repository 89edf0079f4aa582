//! `etc/install.sh`: what it lays down, what it lets be, and that it takes all of its own away again.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use smtpmta::config;

/// Does this with everything below `folder`, as somebody does whose files are nobody else's.
fn run(folder: &Path, prefix: &str, verb: &str) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/install.sh");
    Command::new("sh")
        .args(["-c", "umask 077 && exec \"$0\" \"$1\""])
        .args([script.as_os_str(), verb.as_ref()])
        .envs([("DESTDIR", folder.as_os_str()), ("PREFIX", prefix.as_ref())])
        .env("BINARY", env!("CARGO_BIN_EXE_smtpmta"))
        .output()
        .unwrap()
}

/// Does it in the usual place, and gives what was said.
fn install(folder: &Path, verb: &str) -> String {
    let run = run(folder, "/usr/local", verb);
    assert!(run.status.success(), "{run:?}");
    assert_eq!(String::from_utf8_lossy(&run.stderr), "");
    String::from_utf8(run.stdout).unwrap()
}

/// The regular files below `folder`.
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let each = entries.flat_map(|entry| match entry.file_type().unwrap() {
        kind if kind.is_dir() => below(&entry.path()),
        kind if kind.is_file() => vec![entry.path()],
        _ => Vec::new(),
    });
    each.collect()
}

#[test]
fn what_was_changed_is_kept_and_all_else_is_taken_away_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    // Another MTA has this name.
    fs::create_dir_all(at("usr/lib")).unwrap();
    symlink("../sbin/exim4", at("usr/lib/sendmail")).unwrap();

    let said = install(folder.path(), "install");
    assert!(said.contains("/usr/lib/sendmail is somebody else's"), "{said}");
    assert_eq!(
        fs::read_link(at("usr/local/sbin/sendmail")).unwrap(),
        PathBuf::from("smtpmta")
    );
    assert_eq!(
        fs::read_link(at("usr/sbin/sendmail")).unwrap(),
        PathBuf::from("/usr/local/sbin/smtpmta")
    );
    let unit = fs::read_to_string(at("usr/local/lib/systemd/system/smtpmta.service")).unwrap();
    // With what it needs of the system to take rights from itself.
    for words in [
        "ExecStart=/usr/local/sbin/smtpmta --config",
        "ExecReload=+/usr/local/sbin/smtpmta --config",
        "SystemCallFilter=landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp\n",
    ] {
        assert!(unit.contains(words), "{words}: {unit}");
    }
    // Cron's sendmail reads its configuration as anybody.
    for (path, mode) in [
        ("etc/smtpmta", 0o755),
        ("etc/smtpmta/smtpmta.conf", 0o644),
        ("usr/local/sbin", 0o755),
        ("usr/local/sbin/smtpmta", 0o755),
        ("usr/local/share/man/man8", 0o755),
    ] {
        let found = fs::metadata(at(path)).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{path}");
    }
    let pages = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("man")).unwrap();
    for page in pages.map(|page| page.unwrap().file_name().into_string().unwrap()) {
        let section = page.rsplit('.').next().unwrap();
        assert!(
            at(&format!("usr/local/share/man/man{section}/{page}")).exists(),
            "{page}"
        );
    }
    for page in ["man8/sendmail.8", "man1/mailq.1", "man1/newaliases.1"] {
        let shown = fs::canonicalize(at("usr/local/share/man").join(page)).unwrap();
        assert!(shown.ends_with("man8/smtpmta-sendmail.8"), "{page}: {shown:?}");
    }
    let settings = at("etc/smtpmta/smtpmta.conf");
    let words = ["-c", settings.to_str().unwrap()].map(str::to_owned);
    let asked =
        config::read(&words, || "mail.example.org".to_owned()).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_eq!(asked.config.user.as_deref(), Some("smtpmta"));
    assert_eq!(asked.config.spool, PathBuf::from("/var/spool/smtpmta"));

    let changed = "listen 127.0.0.1:2525\n";
    fs::write(&settings, changed).unwrap();
    let said = install(folder.path(), "install");
    assert!(said.contains("/etc/smtpmta/smtpmta.conf was changed"), "{said}");
    assert_eq!(fs::read_to_string(&settings).unwrap(), changed);

    // Another one's is let be.
    let refused = run(folder.path(), "/opt/smtpmta", "uninstall");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let said = install(folder.path(), "uninstall");
    assert!(
        said.contains("/etc/smtpmta/smtpmta.conf was changed, and is left"),
        "{said}"
    );
    assert_eq!(below(folder.path()), [settings]);
    assert!(
        fs::symlink_metadata(at("usr/lib/sendmail")).is_ok(),
        "somebody else's"
    );
    assert!(fs::symlink_metadata(at("usr/sbin/sendmail")).is_err());
    assert!(fs::symlink_metadata(at("usr/local/bin/mailq")).is_err());
    // What every machine has is left, and no folder in it.
    for folder in ["share/man", "share", "lib", "bin", "sbin"] {
        let inside: Vec<_> = fs::read_dir(at("usr/local").join(folder)).unwrap().collect();
        assert_eq!(
            inside.len(),
            usize::from(folder == "share"),
            "{folder}: {inside:?}"
        );
    }
}

#[test]
fn a_place_that_scripts_would_have_to_quote_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    for prefix in ["/opt/my mta", "/opt/a&b", "/opt/$x"] {
        let refused = run(folder.path(), prefix, "install");
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    }
    assert_eq!(below(folder.path()), [""; 0].map(PathBuf::from));
}
