//! The content that is measured with.

use std::fmt;

/// What a letter is like.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// Lines of text.
    Plain,
    /// Every line begins with a dot.
    Dots,
    /// A text, and something in base64, as parts.
    Parts,
}

/// A kind of letter, and how large it is: an argument of a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Letter {
    /// What it is like.
    pub form: Form,
    /// Octets, header and all; a line more or less.
    pub size: usize,
}

/// 4 KiB: what most mail is.
pub const SMALL: Letter = Letter {
    form: Form::Plain,
    size: 4 << 10,
};

impl fmt::Display for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match self.form {
            Form::Plain => "plain",
            Form::Dots => "dots",
            Form::Parts => "parts",
        };
        write!(f, "{form} {} KiB", self.size >> 10)
    }
}

const HEADER: &str = "From: Bob Smith <bsmith@univac.com>\r\nTo: Jane Doe <jdoe@ibm.com>\r\n\
                      Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <42.1@univac.com>\r\n\
                      Subject: Figures of the third quarter\r\nMIME-Version: 1.0\r\n";

impl Letter {
    /// Its content, as it is stored.
    pub fn content(self) -> Vec<u8> {
        let mut text = HEADER.to_owned();
        let line = match self.form {
            Form::Plain => {
                text += "Content-Type: text/plain; charset=utf-8\r\n\r\n";
                "The quick brown fox jumps over the lazy dog, and none of them looks back.\r\n"
            }
            Form::Dots => {
                text += "Content-Type: text/plain; charset=utf-8\r\n\r\n";
                ".dots\r\n"
            }
            Form::Parts => {
                text += "Content-Type: multipart/mixed; boundary=\"=_part\"\r\n\r\n--=_part\r\n\
                         Content-Type: text/plain\r\n\r\nSee below.\r\n--=_part\r\n\
                         Content-Type: application/pdf; name=\"figures.pdf\"\r\n\
                         Content-Disposition: attachment; filename=\"figures.pdf\"\r\n\
                         Content-Transfer-Encoding: base64\r\n\r\n";
                "JVBERi0xLjcKJeLjz9MKMSAwIG9iago8PCAvVHlwZSAvQ2F0YWxvZyAvUGFnZXMgMiAwIFIgPj4K\r\n"
            }
        };
        while text.len() < self.size {
            text += line;
        }
        if let Form::Parts = self.form {
            text += "--=_part--\r\n";
        }
        text.into_bytes()
    }

    /// As it travels after DATA, to its final dot.
    pub fn on_the_wire(self) -> Vec<u8> {
        let mut wire = Vec::new();
        let mut encoder = smtpmta::smtp::data::Encoder::new();
        encoder.encode(&self.content(), &mut wire);
        encoder.finish(&mut wire);
        wire
    }
}
