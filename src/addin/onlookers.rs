//! Those who look on: the listener of `--http` is opened at the start, and opened, moved or closed by a refresh.
//!
//! It is no part of what flows: mail does not wait for it, and where it can not be opened again it is tried until it can.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::StartError;
use super::crew::Crew;
use crate::config::Config;
use crate::console::screen;
use crate::http::listener::Listening;
use crate::http::view::View;
use crate::log_book;
use crate::tasks::Task;
use crate::tasks::board::Board;
use crate::work_queue::WorkQueue;

/// How long after a trial the next one is made.
const PAUSE: Duration = Duration::from_secs(1);

/// The listener, and what there is to see.
pub(super) struct Onlookers {
    view: Arc<View>,
    board: Board,
    /// Where it was asked to listen, and does.
    open: Option<(SocketAddr, Listening)>,
    /// When it could not be opened last.
    tried: Option<Instant>,
}

impl Onlookers {
    /// Nobody can look on yet.
    pub(super) fn new(queue: WorkQueue, crew: &Crew, config: &Config) -> Onlookers {
        Onlookers {
            view: View::new(queue, &config.hostname, crew.staff()),
            board: crew.board.clone(),
            open: None,
            tried: None,
        }
    }

    fn is_at(&self, asked: SocketAddr) -> bool {
        self.open.as_ref().is_some_and(|(at, _)| *at == asked)
    }

    /// A socket where `config` asks for one, if that is not where it listens already; none where a port that is ours by
    /// another address has to be let go first.
    pub(super) fn try_listen(&self, config: &Config) -> Result<Option<TcpListener>, StartError> {
        let Some(asked) = config.http.filter(|asked| !self.is_at(*asked)) else {
            return Ok(None);
        };
        let ours = self
            .open
            .as_ref()
            .map(|(_, listening)| listening.address().port());
        match TcpListener::bind(asked) {
            Ok(socket) => Ok(Some(socket)),
            Err(_) if ours == Some(asked.port()) => Ok(None),
            Err(error) => Err(StartError::Listen(asked, error)),
        }
    }

    /// From now on it listens where `config` says, on this socket if there is one; if it can not, that is tried again.
    pub(super) fn follow(&mut self, config: &Config, socket: Option<TcpListener>) -> Result<(), StartError> {
        self.view.rename(&config.hostname);
        match config.http {
            Some(asked) if self.is_at(asked) => return Ok(()),
            _ => self.close(),
        }
        let Some(asked) = config.http else {
            return Ok(());
        };
        self.board.begin(Task::Http);
        match self.listen(asked, socket) {
            Ok(listening) => {
                let line = screen::looked_at_on(&listening.address().to_string());
                log_book::say(&screen::said_by(Task::Http, &line));
                self.board.write(Task::Http, line);
                self.open = Some((asked, listening));
                Ok(())
            }
            Err(error) => {
                let error = StartError::Listen(asked, error);
                self.tried = Some(Instant::now());
                self.board
                    .write(Task::Http, screen::not_started(&error.to_string()));
                Err(error)
            }
        }
    }

    fn listen(&self, asked: SocketAddr, socket: Option<TcpListener>) -> io::Result<Listening> {
        let socket = match socket {
            Some(socket) => socket,
            None => TcpListener::bind(asked)?,
        };
        Listening::start(socket, Arc::clone(&self.view))
    }

    /// Tries again to open what could not be opened, if it is time for that.
    pub(super) fn start_wanted(&mut self, config: &Config) {
        if self.until_wanted().is_some_and(|until| until.is_zero()) && self.follow(config, None).is_ok() {
            log::warn!("http has been started, after it could not be");
        }
    }

    /// Until that is to be done; `None` where it is open, or need not be.
    pub(super) fn until_wanted(&self) -> Option<Duration> {
        let tried = self.tried?;
        Some(PAUSE.saturating_sub(tried.elapsed()))
    }

    /// Nobody can look on any more.
    pub(super) fn close(&mut self) {
        self.tried = None;
        if let Some((_, listening)) = self.open.take() {
            listening.stop();
            log_book::say(&screen::stopped(Task::Http));
        }
        self.board.stop(Task::Http);
        self.board.end(Task::Http);
    }
}
