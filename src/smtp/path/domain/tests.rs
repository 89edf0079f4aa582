//! Domains and address literals, in every spelling that means one and many that do not.

use super::super::{Mailbox, PathError};
use super::address_literal;

fn parsed(text: &str) -> String {
    Mailbox::parse(text).unwrap().to_string()
}

#[test]
fn address_literals_are_read_strictly_and_written_in_one_way() {
    for (literal, expected) in [
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("[0.0.0.0]", "[0.0.0.0]"),
        ("[255.255.255.255]", "[255.255.255.255]"),
        ("[ipv6:2001:DB8:0:0::1]", "[IPv6:2001:db8::1]"),
        ("[IPv6:::]", "[IPv6:::]"),
        ("[IPv6:::1]", "[IPv6:::1]"),
        ("[IPv6:1::]", "[IPv6:1::]"),
        ("[IPV6:1:2:3:4:5:6:7:8]", "[IPv6:1:2:3:4:5:6:7:8]"),
        ("[IPv6:::ffff:192.0.2.1]", "[IPv6:::ffff:192.0.2.1]"),
        ("[IPv6:1:2:3:4:5:6:192.0.2.1]", "[IPv6:1:2:3:4:5:6:c000:201]"),
    ] {
        assert_eq!(
            parsed(&format!("a@{literal}")),
            format!("a@{expected}"),
            "{literal}"
        );
        assert!(address_literal(literal).is_some());
    }
    for broken in [
        "[]",
        "[",
        "[127.0.0.1",
        "127.0.0.1]",
        "[[127.0.0.1]]",
        "[127.0.0.1]x",
        "[127.0.0.1].example.org",
        "[127.0.0.1].",
        "[ 127.0.0.1]",
        "[127.0.0.1 ]",
        "[127.0.0]",
        "[127.0.0.1.1]",
        "[127.0.0.256]",
        "[300.0.0.1]",
        "[127.0.0.01]",
        "[0177.0.0.1]",
        "[0x7f.0.0.1]",
        "[127.0.0.+1]",
        "[127.0.0.1:25]",
        "[2130706433]",
        "[localhost]",
        "[::1]",
        "[IPv6:]",
        "[IPv6:1]",
        "[IPv6:::1%lo]",
        "[IPv6: ::1]",
        "[IPv6:::1::]",
        "[IPv6:1:2:3:4:5:6:7]",
        "[IPv6:1:2:3:4:5:6:7:8:9]",
        "[IPv6:12345::]",
        "[IPv6:::g]",
        "[IPv6:::192.0.2.01]",
        "[IPv6:::192.0.2.256]",
        "[IPv6:192.0.2.1]",
        "[IPv4:192.0.2.1]",
        "[tag:content]",
        "[x400:whatever]",
        "[\u{ff11}27.0.0.1]",
        "\u{ff3b}127.0.0.1\u{ff3d}",
    ] {
        let mailbox = format!("a@{broken}");
        assert_eq!(Mailbox::parse(&mailbox), Err(PathError::Domain), "{broken}");
        assert!(address_literal(broken).is_none());
    }
}

#[test]
fn an_address_without_its_brackets_is_no_domain_in_any_spelling() {
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0X7F000001",
        "127.0.0.0x1",
        "example.123",
        "\u{ff11}\u{ff12}\u{ff17}.0.0.1",
        "127\u{3002}0\u{3002}0\u{3002}1",
    ] {
        let mailbox = format!("a@{host}");
        assert_eq!(Mailbox::parse(&mailbox), Err(PathError::Domain), "{host}");
    }
}

#[test]
fn domains_in_any_script_become_a_labels() {
    for (domain, expected) in [
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.Example", "xn--bcher-kva.example"),
        ("bu\u{308}cher.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"), // not transitional: ß stays ß
        ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
        ("παράδειγμα.δοκιμή", "xn--hxajbheg2az3al.xn--jxalpdlp"),
        ("مثال.إختبار", "xn--mgbh0fb.xn--kgbechtv"),
        ("mail_1.bücher.example", "mail_1.xn--bcher-kva.example"),
        ("例え\u{3002}テスト", "xn--r8jz45g.xn--zckzah"),
        ("\u{ff45}xample.org", "example.org"),
        (
            "xn--bcher-kva.bücher.example",
            "xn--bcher-kva.xn--bcher-kva.example",
        ),
        // What comes in ASCII is a name like any other.
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("xn--a.example", "xn--a.example"),
        ("xn--99999999.example", "xn--99999999.example"),
        ("ab--cd.example", "ab--cd.example"),
    ] {
        assert_eq!(parsed(&format!("a@{domain}")), format!("a@{expected}"));
    }
    for broken in [
        "xn--a-.example",
        "-bücher.example",
        "bücher-.example",
        "bücher..example",
        ".bücher.example",
        "bücher.example.",
        "bücher.example\u{3002}",
        "bü cher.example",
        "bü@cher.example",
        "bü\u{ff20}cher.example",
        "bü%cher.example",
        ">\u{338}.example", // ≯ in two code points
        "=\u{338}.example",
        "\u{2100}.example",            // ℀, which is "a/c"
        "xn--bü.example",              // an A-label that is none
        "xn--99999999.bücher.example", // does not decode, in a name that must be checked as a whole
        "\u{301}a.example",            // begins with a combining mark
        "a\u{200d}b.example",          // a joiner where nothing joins
        "aא.example",                  // two directions in one label
        "\u{ad}.example",              // nothing is left of it
        "\u{e000}.example",
        "\u{378}.example", // not assigned
    ] {
        let mailbox = format!("a@{broken}");
        assert_eq!(Mailbox::parse(&mailbox), Err(PathError::Domain), "{broken:?}");
    }
}
