//! What a handler tells its session, and what the session tells the handler to do.
//!
//! Values only. Never does anything.

use std::sync::Arc;
use std::time::Duration;

use crate::accounts::Login;
use crate::sasl::{Check, Progress};
use crate::smtp::command::Body;
use crate::smtp::data::ContentFault;
use crate::smtp::dsn::{EnvelopeId, Return};
use crate::smtp::line::LineFault;
use crate::smtp::path::ReversePath;
use crate::smtp::reply::Reply;
use crate::tls::handshake::TlsFacts;
use crate::work_queue::Addressee;
use crate::work_queue::id::MessageId;

/// What happened on the handler's side.
#[derive(Debug)]
pub enum Input<'a> {
    /// The client has called, and has said these octets already: none, from one that has manners. Once, before
    /// everything else but [`Input::TlsStarted`].
    Connected(&'a [u8]),
    /// A whole line came, outside content; `followed` if more came with it.
    Line {
        /// The line without its CRLF.
        line: &'a [u8],
        /// More has come already.
        followed: bool,
    },
    /// Something came, outside content, that is no line.
    BadLine(LineFault),
    /// What came is not SMTP at all.
    NotSmtp,
    /// Content or a chunk that was asked for has come, good or bad.
    Content(ContentEnd),
    /// What [`Step::Skip`] asked for has come.
    Skipped,
    /// The commit that [`Step::Store`] asked for has returned.
    Stored(Result<MessageId, StoreRefusal>),
    /// The handshake that [`Step::StartTls`] asked for is done, or that of a port on which TLS comes first.
    TlsStarted(Box<Secured>),
    /// What came out of [`Step::Check`].
    Checked(Box<Progress>),
    /// The client took too long, over a command or a message.
    Timeout,
    /// The place is needed for others.
    Evicted,
    /// The MTA stops. A message whose content is still coming is given up; to let it finish, give this
    /// after [`Input::Stored`].
    Stopping,
}

/// What a session has of TLS.
#[derive(Debug)]
pub struct Secured {
    /// What was agreed upon.
    pub facts: TlsFacts,
    /// Random octets, never used before.
    pub entropy: [u8; 32],
}

/// How content came to its end, or a chunk of it: what is known of all that has come so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentEnd {
    /// Octets of content, all of them, kept or not.
    pub size: u64,
    /// What the decoder found wrong.
    pub fault: Option<ContentFault>,
    /// Received fields in the header.
    pub hops: usize,
    /// Whether as much of the content as was allowed for could be put away.
    pub kept: Result<(), StoreRefusal>,
}

/// Why a message could not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreRefusal {
    /// No room on the disk.
    OutOfSpace,
    /// Anything else: the queue or the disk is in trouble.
    QueueTrouble,
}

/// What was said about a message before its content.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// Whom to tell when delivery fails.
    pub reverse_path: ReversePath,
    /// Who it is for: at least one, each once, in the order in which they were named.
    pub recipients: Vec<Addressee>,
    /// What octets the client says the content holds; `None` if it did not say.
    pub body: Option<Body>,
    /// SMTPUTF8 was given.
    pub utf8: bool,
    /// RET.
    pub ret: Option<Return>,
    /// ENVID.
    pub envelope_id: Option<EnvelopeId>,
    /// Who had logged in.
    pub login: Option<Arc<Login>>,
}

/// What the handler is to do next.
#[derive(Debug)]
pub enum Step {
    /// Write this, as it is: enhanced codes have been taken off where the client does not know them.
    Reply(Reply),
    /// Wait, before the steps that follow.
    Pause(Duration),
    /// What comes now is content, up to the line with only a dot; give [`Input::Content`] then.
    ReceiveContent,
    /// So many octets of content come now, the first ones of a message or more of it; give [`Input::Content`]
    /// then.
    ReceiveChunk(u64),
    /// So many octets come now that are nobody's; give [`Input::Skipped`] then.
    Skip(u64),
    /// Commit the content with this envelope; give [`Input::Stored`] when the commit has returned.
    Store(Box<Envelope>),
    /// Forget the content.
    Discard,
    /// Forget all that has come and has not been looked at, and let the client shake hands; give
    /// [`Input::TlsStarted`] then.
    StartTls,
    /// Is this password right? That takes time. Give [`Input::Checked`].
    Check(Box<Check>),
    /// Write what is still to be written and hang up.
    Close,
}

/// Up to three steps, in order. No heap.
#[derive(Debug, Default)]
pub struct Steps([Option<Step>; 3]);

impl Steps {
    /// Takes the enhanced codes off the replies.
    pub fn drop_codes(&mut self) {
        for step in &mut self.0 {
            if let Some(Step::Reply(reply)) = step {
                reply.enhanced = None;
            }
        }
    }

    /// Puts `first` before the others. They must be two at most.
    pub fn put_first(&mut self, first: Step) {
        let [one, two, three] = &mut self.0;
        debug_assert!(three.is_none(), "no room for another step");
        *three = two.take();
        *two = one.replace(first);
    }
}

impl From<Step> for Steps {
    #[inline]
    fn from(step: Step) -> Steps {
        Steps([Some(step), None, None])
    }
}

impl From<[Step; 2]> for Steps {
    #[inline]
    fn from([one, two]: [Step; 2]) -> Steps {
        Steps([Some(one), Some(two), None])
    }
}

/// Gives the steps one by one, from where they lie.
impl Iterator for Steps {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        self.0.iter_mut().find_map(Option::take)
    }
}
