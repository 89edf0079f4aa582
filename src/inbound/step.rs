//! What a handler tells its session, and what the session tells the handler to do.
//!
//! Values only. Never does anything.

use crate::smtp::command::Body;
use crate::smtp::data::ContentFault;
use crate::smtp::line::{Line, LineFault};
use crate::smtp::path::{Mailbox, ReversePath};
use crate::smtp::reply::Reply;
use crate::work_queue::id::MessageId;

/// What happened on the handler's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// The client has called. Once, before everything else.
    Connected,
    /// A whole line came, outside content.
    Line(&'a [u8]),
    /// Something came, outside content, that is no line.
    BadLine(LineFault),
    /// Content has come to its end, good or bad.
    ContentEnd {
        /// Octets of content, all of them, kept or not.
        size: u64,
        /// What the decoder found wrong.
        fault: Option<ContentFault>,
        /// Whether as much of the content as was allowed for could be put away.
        kept: Result<(), StoreRefusal>,
    },
    /// The commit that [`Step::Store`] asked for has returned.
    Stored(Result<MessageId, StoreRefusal>),
    /// The client took too long, over a command or a message.
    Timeout,
    /// The MTA stops. A message whose content is still coming is given up; to let it finish, give this
    /// after [`Input::Stored`].
    Stopping,
}

impl<'a> From<Line<'a>> for Input<'a> {
    fn from(line: Line<'a>) -> Input<'a> {
        match line {
            Line::Whole(line) => Input::Line(line),
            Line::Bad(fault) => Input::BadLine(fault),
        }
    }
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Whom to tell when delivery fails.
    pub reverse_path: ReversePath,
    /// Who it is for: at least one, each once, in the order in which they were named.
    pub recipients: Vec<Mailbox>,
    /// What octets the client says the content holds; `None` if it did not say.
    pub body: Option<Body>,
}

/// What the handler is to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write this, as it is: enhanced codes have been taken off where the client does not know them.
    Reply(Reply),
    /// What comes now is content, up to its end; give [`Input::ContentEnd`] then.
    ReceiveContent,
    /// Commit the content with this envelope; give [`Input::Stored`] when the commit has returned.
    Store(Envelope),
    /// Forget the content.
    Discard,
    /// Write what is still to be written and hang up.
    Close,
}

/// Up to three steps, in order. No heap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps([Option<Step>; 3]);

impl Steps {
    /// The same steps, with what `change` makes of every reply.
    #[must_use]
    pub fn map_replies(self, change: impl Fn(Reply) -> Reply) -> Steps {
        Steps(self.0.map(|step| match step {
            Some(Step::Reply(reply)) => Some(Step::Reply(change(reply))),
            other => other,
        }))
    }
}

impl<const N: usize> From<[Step; N]> for Steps {
    fn from(steps: [Step; N]) -> Steps {
        const { assert!(N <= 3) };
        let mut all = Steps::default();
        for (place, step) in all.0.iter_mut().zip(steps) {
            *place = Some(step);
        }
        all
    }
}

impl IntoIterator for Steps {
    type Item = Step;
    type IntoIter = std::iter::Flatten<std::array::IntoIter<Option<Step>, 3>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().flatten()
    }
}
