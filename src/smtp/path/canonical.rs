//! What the host that a mailbox is on may make of its local part: the same in any case and with any quotes,
//! and without its detail (RFC 5233).
//!
//! For mailboxes of ours alone: what a local part of somebody else's means, nobody here knows (RFC 5321
//! 2.3.11).

use super::Mailbox;
use super::local_part::is_dot_string;

impl Mailbox {
    /// The form in which mailboxes of ours are compared (RFC 5321 2.4 leaves it to us): the local part in
    /// lower case, in quotes only where it needs them. May be longer than what came.
    #[must_use]
    pub fn in_lower_case(&self) -> Mailbox {
        self.with_local_text(&self.local_text().to_lowercase())
    }

    /// The mailbox of `user` for `user+detail`; `None` where there is no detail, or no user before it.
    #[must_use]
    pub fn without_detail(&self) -> Option<Mailbox> {
        let text = self.local_text();
        let (user, _) = text.split_once('+').filter(|(user, _)| !user.is_empty())?;
        Some(self.with_local_text(user))
    }

    /// The mailbox with the same local part in another domain of ours. Expects a domain as another mailbox
    /// has it.
    #[must_use]
    pub(crate) fn in_domain(&self, domain: &str) -> Mailbox {
        Mailbox {
            local_part: self.local_part.clone(),
            domain: domain.to_owned(),
        }
    }

    fn with_local_text(&self, text: &str) -> Mailbox {
        let local_part = if is_dot_string(text) {
            text.to_owned()
        } else {
            format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        };
        Mailbox {
            local_part,
            domain: self.domain.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lower(text: &str) -> String {
        Mailbox::parse(text).unwrap().in_lower_case().to_string()
    }

    fn user(text: &str) -> Option<String> {
        let mailbox = Mailbox::parse(text).unwrap();
        mailbox.without_detail().map(|user| user.to_string())
    }

    #[test]
    fn case_and_needless_quotes_make_no_difference() {
        assert_eq!(lower("Bob.Smith@Example.ORG"), "bob.smith@example.org");
        assert_eq!(lower(r#""B\ob"@a"#), "bob@a");
        assert_eq!(lower(r#""Jane Doe"@a"#), r#""jane doe"@a"#);
        assert_eq!(lower(r#""a\"\\"@a"#), r#""a\"\\"@a"#);
        assert_eq!(lower(r#"""@a"#), r#"""@a"#);
        assert_eq!(lower("JÖRG@a"), "jörg@a");
    }

    #[test]
    fn what_follows_a_plus_is_detail() {
        assert_eq!(user("Bob+lists+x@a").as_deref(), Some("Bob@a"));
        assert_eq!(user(r#""jane doe+x"@a"#).as_deref(), Some(r#""jane doe"@a"#));
        assert_eq!(user("bob.+x@a").as_deref(), Some(r#""bob."@a"#));
        assert_eq!(user("bob@a"), None);
        assert_eq!(user("+x@a"), None);
    }

    proptest! {
        #[test]
        fn what_is_in_lower_case_stays_as_it_is(local in r#"[a-cA-C+. "\\@]{0,6}"#) {
            let quoted = format!("\"{}\"@a", local.replace('\\', "\\\\").replace('"', "\\\""));
            let mailbox = Mailbox::parse(&quoted).unwrap();
            let lower = mailbox.in_lower_case();
            prop_assert_eq!(lower.local_text(), local.to_lowercase());
            prop_assert_eq!(lower.in_lower_case(), lower.clone());
            prop_assert_eq!(Mailbox::parse(&lower.to_string()), Ok(lower));
        }
    }
}
