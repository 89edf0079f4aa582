//! smtpmta: the SMTP mail transfer agent of session controllers, session handlers and open work queues.
//!
//! The rooms, in the order in which a message meets them:
//!
//! | room | what it is |
//! |---|---|
//! | [`addin`] | SMTPMTA, the add-in task: starts, stops and watches the others; housekeeping |
//! | [`inbound`] | isesctl and iseshlrN: accept connections and speak SMTP with whoever calls |
//! | [`work_queue`] | the inbound work queue, SMTP.BOX and the outbound work queue: one SQLite database, one writer |
//! | [`service`] | how the MTA lives on a Unix system: daemon, user, service manager, confinement |
//! | [`sendmail`] | what programs of this machine call to send mail: sendmail, mailq, newaliases |
//! | [`maildrop`] | where that leaves messages, and the MTA finds them, whoever called and whether it runs or not |
//! | [`conversion`] | imsgcnv and omsgcnv: what came from the Internet, and what goes there |
//! | [`mailbox`] | where local recipients find their mail |
//! | [`domain_list`] | Domain List Processing: pending messages become lists by next hop |
//! | [`outbound`] | osesctl and oseshlrN: carry the lists to their next hops |
//! | [`delivery_report`] | drt: bounces, delay notices, statistics |
//! | [`console`] | what the operator says and sees |
//! | [`doctor`] | what keeps mail from flowing, or lets in who should stay out |
//! | [`dry_run`] | where mail would go, and what a client would hear, with nothing queued |
//! | [`http`] | what those see who look on: metrics, health, the status page |
//! | [`transfer`] | how mail moves from one spool to another, in the process of the command that moves it |
//! | [`sink`] | no part of the MTA: a next hop for tests and trials that misbehaves to order |
//!
//! Below them: [`tasks`] (names, doorbells, the handler table), [`smtp`] (the grammar that both directions
//! share), [`mime`] (what becomes of 8-bit content), [`accounts`], [`aliases`], [`sasl`], [`tls`], [`dns`], [`config`], [`log_book`], [`latest`],
//! [`metrics`] (what is measured), [`sync`] (what threads wait on) and [`clock`]. For tests alone: [`crash_point`].
//!
//! Rooms speak to each other only through the work queue and a doorbell. `inbound`, `outbound` and
//! `conversion` never import each other.

pub mod accounts;
pub mod addin;
pub mod aliases;
pub mod clock;
pub mod config;
pub mod console;
pub mod conversion;
pub mod crash_point;
pub mod delivery_report;
pub mod dns;
pub mod doctor;
pub mod domain_list;
pub mod dry_run;
pub mod http;
pub mod inbound;
pub mod latest;
pub mod log_book;
pub mod mailbox;
pub mod maildrop;
pub mod metrics;
pub mod mime;
pub mod named_file;
pub mod outbound;
pub mod sasl;
pub mod sendmail;
pub mod service;
pub mod sink;
pub mod smtp;
pub mod sync;
pub mod tasks;
pub mod tls;
pub mod transfer;
pub mod work_queue;
