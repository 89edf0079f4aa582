//! A message on its way in: octets come off the wire, lose their dots or are taken as chunks, pass the watch over
//! the header, and end up in the queue's content.
//!
//! Never holds more of a message than the content writer does, and keeps nothing that is beyond the size limit.

use super::header::HeaderWatch;
use super::step::{ContentEnd, StoreRefusal};
use crate::smtp::data::{ChunkChecker, Decoder};
use crate::work_queue::id::MessageId;
use crate::work_queue::{Content, ContentWriter, QueueError};

/// The message that is coming in.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) id: MessageId,
    /// The word for how it came: `ESMTPS`.
    pub(super) protocol: &'static str,
    body: Body,
    intake: Intake,
}

/// How its octets come.
#[derive(Debug)]
pub(super) enum Body {
    /// After DATA.
    Dotted(Decoder),
    /// After BDAT.
    Chunks(ChunkChecker),
}

/// Where the octets of content go.
#[derive(Debug)]
struct Intake {
    header: HeaderWatch,
    kept: Kept,
    size: u64,
    /// `--max-message-size`.
    most: u64,
}

/// What is kept of it, and whether that went well.
#[derive(Debug)]
struct Kept {
    id: MessageId,
    /// None when it is of no use any more.
    content: Option<ContentWriter>,
    so_far: Result<(), StoreRefusal>,
}

impl Incoming {
    /// A message of which nothing has come yet but our Received line.
    pub(super) fn new(
        id: MessageId,
        protocol: &'static str,
        body: Body,
        header: HeaderWatch,
        content: ContentWriter,
        received: &str,
        most: u64,
    ) -> Incoming {
        let mut kept = Kept {
            id,
            content: Some(content),
            so_far: Ok(()),
        };
        kept.write(received.as_bytes());
        Incoming {
            id,
            protocol,
            body,
            intake: Intake {
                header,
                kept,
                size: 0,
                most,
            },
        }
    }

    /// One of which nothing is kept: it is looked at, and that is all.
    pub(super) fn unkept(id: MessageId, body: Body, header: HeaderWatch, most: u64) -> Incoming {
        Incoming {
            id,
            protocol: "",
            body,
            intake: Intake {
                header,
                kept: Kept {
                    id,
                    content: None,
                    so_far: Ok(()),
                },
                size: 0,
                most,
            },
        }
    }

    /// Takes the octets after DATA off `input`; whether the message has come to its end.
    pub(super) fn take_dotted(&mut self, input: &mut &[u8]) -> bool {
        let Body::Dotted(decoder) = &mut self.body else {
            return false;
        };
        let decoded = decoder.decode(input, &mut |piece| self.intake.take(piece));
        *input = &input[decoded.consumed..];
        decoded.finished
    }

    /// Takes in octets of a chunk.
    pub(super) fn take_chunk(&mut self, octets: &[u8]) {
        if let Body::Chunks(checker) = &mut self.body {
            checker.check(octets);
            self.intake.take(octets);
        }
    }

    /// What is known of it when its last octet has come, or the last one of a chunk.
    pub(super) fn end(&mut self, is_last: bool) -> ContentEnd {
        if is_last {
            self.intake.finish();
        }
        let fault = match &mut self.body {
            Body::Dotted(decoder) => decoder.fault(),
            Body::Chunks(checker) if is_last => checker.fault_at_end(),
            Body::Chunks(checker) => checker.fault(),
        };
        ContentEnd {
            size: self.intake.size,
            fault,
            hops: self.intake.header.received_fields(),
            kept: self.intake.kept.so_far,
        }
    }

    /// Whether more has come than may.
    pub(super) fn is_too_big(&self) -> bool {
        self.intake.size > self.intake.most
    }

    /// Its content, on the disk if it is large; `None` if it is too big or could not be kept.
    pub(super) fn finish(self) -> Option<Result<Content, QueueError>> {
        self.intake.kept.content.map(ContentWriter::finish)
    }
}

impl Intake {
    fn take(&mut self, piece: &[u8]) {
        let goes_on = self.size == 0 && matches!(piece.first(), Some(b' ' | b'\t'));
        if goes_on && !self.header.completes() {
            // It would be more of our Received line: there is no header, and here the body begins.
            self.kept.write(b"\r\n");
        }
        self.size += piece.len() as u64;
        if self.size > self.most || self.kept.so_far.is_err() {
            // What is on the disk of it goes at once.
            self.kept.content = None;
            return;
        }
        let kept = &mut self.kept;
        self.header.feed(piece, &mut |piece| kept.write(piece));
    }

    fn finish(&mut self) {
        let kept = &mut self.kept;
        self.header.finish(&mut |piece| kept.write(piece));
    }
}

impl Kept {
    fn write(&mut self, piece: &[u8]) {
        if let (Some(content), Ok(())) = (&mut self.content, self.so_far)
            && let Err(error) = content.write(piece)
        {
            log::error!("id={} its content can not be kept: {error}", self.id);
            self.so_far = Err(refusal(&error));
        }
    }
}

/// What the client hears of `error`.
pub(super) fn refusal(error: &QueueError) -> StoreRefusal {
    if error.is_out_of_space() {
        StoreRefusal::OutOfSpace
    } else {
        StoreRefusal::QueueTrouble
    }
}
