//! A real browser: Debian's chromium without a screen, told by its DevTools protocol what to open and asked what it shows.
//!
//! It is spoken to through two named pipes, which it finds as its descriptors 3 and 4: a message is JSON and a NUL.

#![allow(dead_code)] // each test uses what it needs

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use data_encoding::BASE64;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::world::PATIENCE;

/// Set where a test that finds no browser must fail, as `.ci/run` does.
const MUST_BROWSE: &str = "SMTPMTA_MUST_BROWSE";

/// Set to a folder, pictures of what is shown are left there.
const SCREENSHOTS: &str = "SMTPMTA_SCREENSHOTS";

/// What it may be called.
const NAMES: [&str; 2] = ["chromium", "chromium-browser"];

/// A browser with one page; it ends when it is dropped.
pub struct Browser {
    child: Child,
    to: File,
    messages: Receiver<Value>,
    session: String,
    last: u64,
    /// What was said without having been asked for.
    events: Vec<Value>,
    _folder: TempDir,
}

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Pixels of the screen.
    pub width: u64,
    pub height: u64,
    /// A phone.
    pub mobile: bool,
    pub dark: bool,
}

impl Browser {
    /// Starts one. `None` where there is none on this machine: this says so past the test's capture, and the test has to end
    /// without having looked at anything.
    ///
    /// # Panics
    /// Where there is none and [`MUST_BROWSE`] is set.
    #[track_caller]
    pub fn start() -> Option<Browser> {
        let Some(program) = program() else {
            assert!(
                env::var_os(MUST_BROWSE).is_none(),
                "chromium is missing: apt-get install chromium"
            );
            // Not `eprintln`, which nobody sees of a test that passes.
            let _ = writeln!(
                io::stderr(),
                "\nNOT TESTED: the status page in a browser. chromium is missing: apt-get install chromium"
            );
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let (says, hears) = (folder.path().join("says"), folder.path().join("hears"));
        for pipe in [&says, &hears] {
            mkfifo(pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        }
        let child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<\"$SAYS\" 4>\"$HEARS\""])
            .arg(program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ])
            .args([
                "--no-first-run",
                "--disable-background-networking",
                "--no-proxy-server",
            ])
            .args(["--remote-debugging-pipe", "about:blank"])
            .arg(format!(
                "--user-data-dir={}",
                folder.path().join("profile").display()
            ))
            .env("SAYS", &says)
            .env("HEARS", &hears)
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // In the order in which the shell opens them: each waits for the other end.
        let to = File::options().write(true).open(&says).unwrap();
        let from = File::open(&hears).unwrap();
        let (heard, messages) = channel();
        thread::spawn(move || {
            for message in BufReader::new(from).split(0).map_while(Result::ok) {
                let message = serde_json::from_slice::<Value>(&message).unwrap();
                if heard.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Browser {
            child,
            to,
            messages,
            session: String::new(),
            last: 0,
            events: Vec::new(),
            _folder: folder,
        };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", &attach);
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        Some(browser)
    }

    /// Gives an order, and waits for what comes of it.
    #[track_caller]
    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.last += 1;
        let mut order = json!({ "id": self.last, "method": method, "params": parameters });
        if !self.session.is_empty() {
            order["sessionId"] = json!(self.session);
        }
        self.to.write_all(format!("{order}\0").as_bytes()).unwrap();
        let id = self.last;
        let mut answer = self.wait_for(&format!("the answer to {method}"), |message| message["id"] == id);
        assert_eq!(answer["error"], Value::Null, "{method}");
        answer["result"].take()
    }

    #[track_caller]
    fn wait_for(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let message = self.messages.recv_timeout(left);
            let message = message.unwrap_or_else(|error| panic!("{what}: {error}; {:#?}", self.events));
            if is_it(&message) {
                return message;
            }
            self.events.push(message);
        }
    }

    /// From now on pages are looked at like this.
    #[track_caller]
    pub fn look(&mut self, look: Look) {
        let (width, height) = (look.width, look.height);
        let scale = if look.mobile { 2 } else { 1 };
        let screen =
            json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": look.mobile });
        self.call("Emulation.setDeviceMetricsOverride", &screen);
        let scheme = if look.dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// Opens a page, and waits until it is there.
    #[track_caller]
    pub fn open(&mut self, url: &str) {
        self.events.clear();
        self.call("Page.navigate", &json!({ "url": url }));
        let is_there = |message: &Value| message["method"] == "Page.loadEventFired";
        if !self.events.iter().any(is_there) {
            let loaded = self.wait_for(url, is_there);
            self.events.push(loaded);
        }
    }

    /// What an expression comes to on the page, or what its promise does.
    #[track_caller]
    pub fn ask(&mut self, expression: &str) -> Value {
        let order = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.call("Runtime.evaluate", &order);
        assert_eq!(answer["exceptionDetails"], Value::Null, "{expression}");
        answer["result"]["value"].take()
    }

    /// What the browser has complained about since the page was opened: scripts that failed, or were not let, and what
    /// could not be fetched.
    pub fn complaints(&self) -> Vec<&Value> {
        let is_one = |message: &&Value| {
            let method = message["method"].as_str().unwrap_or_default();
            method == "Runtime.exceptionThrown"
                || method == "Log.entryAdded" && message["params"]["entry"]["level"] == "error"
                || method == "Page.javascriptDialogOpening"
        };
        self.events.iter().filter(is_one).collect()
    }

    /// Leaves a picture of the whole page behind, where that is wanted.
    #[track_caller]
    pub fn picture(&mut self, name: &str) {
        let Some(folder) = env::var_os(SCREENSHOTS) else {
            return;
        };
        let order = json!({ "format": "png", "captureBeyondViewport": true });
        let picture = self.call("Page.captureScreenshot", &order);
        let octets = BASE64
            .decode(picture["data"].as_str().unwrap().as_bytes())
            .unwrap();
        fs::create_dir_all(&folder).unwrap();
        fs::write(Path::new(&folder).join(format!("{name}.png")), octets).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.to.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        // Its last word is the end of the pipe; then its folder can go.
        let until = Instant::now() + PATIENCE;
        while self
            .messages
            .recv_timeout(until.saturating_duration_since(Instant::now()))
            .is_ok()
        {}
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the browser is, if it is anywhere.
fn program() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let places = NAMES
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    places.into_iter().find(|place| place.is_file())
}
