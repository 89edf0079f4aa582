//! What somebody says to the listener of `--http`: a request is understood or refused, in whatever pieces it comes, and
//! nothing of it could be taken for something else; and whatever text is, on a page it stays text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smtpmta::http::markup::Markup;
use smtpmta::http::request::{Asked, LONGEST_HEAD};

fuzz_target!(|data: &[u8]| {
    let whole = Asked::parse(data);
    // The first answer that there is, as it comes line by line.
    let is_end = |length: &usize| *length == data.len() || data[..*length].ends_with(b"\n");
    let mut lengths = (0..=data.len()).filter(is_end);
    let first = lengths.find_map(|length| Asked::parse(&data[..length]).transpose());
    assert_eq!(whole, first.transpose());
    assert!(whole != Ok(None) || data.len() < LONGEST_HEAD + 4);
    if let Ok(Some(asked)) = whole {
        for text in [asked.path, asked.query] {
            assert!(text.bytes().all(|octet| octet.is_ascii_graphic()), "{text:?}");
        }
        assert!(asked.path.starts_with('/') && !asked.path.contains('?'));
        assert!(!asked.host.contains(char::is_control), "{:?}", asked.host);
        let _ = asked.means("127.0.0.1".parse().unwrap(), "mta.test");
        if let Some(id) = asked.value("id") {
            assert!(asked.query.contains(id) && !id.contains('&'));
        }
    }
    let mut page = Markup::default();
    page.text(&String::from_utf8_lossy(data));
    let page = page.into_string();
    assert!(!page.contains(['<', '>', '"', '\'']), "{page}");
    assert!(!page.contains(char::is_control), "{page:?}");
});
