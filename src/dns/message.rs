//! The grammar of DNS (RFC 1035, RFC 6891): a question into octets, octets into an answer.
//!
//! Pure. Never trusts an answer that is not to the question: ID, name, type and class are compared.

use std::net::IpAddr;
use std::time::Duration;

use domain::base::iana::{Class, OptRcode};
use domain::base::name::FlattenInto;
use domain::base::wire::ParseError;
use domain::base::{Message, MessageBuilder, Name, ParsedName, Rtype};
use domain::rdata::{A, Aaaa, Cname, Mx, Ptr, Soa};

/// A domain name; compared and hashed without regard to case.
pub type DnsName = Name<Vec<u8>>;

/// The aliases that are followed for one question: inside an answer, and again from answer to answer.
pub const LONGEST_ALIAS_CHAIN: usize = 16;

/// The largest answer that we ask for over UDP: it passes every usual path in one piece (RFC 6891 6.2.5).
const UDP_PAYLOAD: u16 = 1232;

/// The name of which `text` is the written form; a dot at its end is allowed.
///
/// `None` for what cannot stand in DNS: an empty label, a label above 63 octets, a name above 255, anything
/// but printable ASCII. The backslash is refused too, so that no label holds what its text does not show.
#[must_use]
pub fn name(text: &str) -> Option<DnsName> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let sound = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if !text.split('.').all(sound) {
        return None;
    }
    Name::from_chars(text.chars()).ok()
}

/// The name under which DNS keeps the names of an address: octets or nibbles from the last to the first, in
/// `in-addr.arpa` (RFC 1035 3.5) or `ip6.arpa` (RFC 3596 2.5). An IPv4 address in IPv6 form is an IPv4 one.
#[must_use]
pub fn reverse_name(address: IpAddr) -> DnsName {
    let text = match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            let nibbles: String = (0..32)
                .map(|i| format!("{:x}.", (bits >> (4 * i)) & 0xf))
                .collect();
            format!("{nibbles}ip6.arpa")
        }
    };
    Name::from_chars(text.chars()).expect("short labels of letters and digits are a name")
}

/// What one record of the wanted type says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// MX: preference and host; the root as a host is the null MX (RFC 7505).
    Mx(u16, DnsName),
    /// A or AAAA.
    Address(IpAddr),
    /// PTR: the name of an address.
    Name(DnsName),
}

/// What DNS says about a name and a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The records, in the order in which they came; at least one.
    Records(Vec<Record>),
    /// The name is an alias for this one, about which the answer says nothing.
    Alias(DnsName),
    /// The name exists, and has no record of this type.
    NoData,
    /// There is no such name (NXDOMAIN).
    NoSuchDomain,
}

/// What some octets from a server turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Not an answer to this question: to be ignored.
    NotOurs,
    /// The answer did not fit: ask over TCP.
    Truncated,
    /// The server said no (SERVFAIL, REFUSED, FORMERR …), and with which code.
    Refusal(OptRcode),
    /// An answer to our question that cannot be used, and why.
    Garbled(&'static str),
    /// The answer, and for how long it may be kept; zero is not at all.
    Answer(Answer, Duration),
}

/// The question for the `rtype` of `name`, recursion desired, as octets without a length.
///
/// `edns` is false for servers that refused an OPT record (RFC 6891 6.2.2).
#[must_use]
pub fn question(id: u16, name: &DnsName, rtype: Rtype, edns: bool) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(id);
    builder.header_mut().set_rd(true);
    let mut builder = builder.question();
    builder.push((name, rtype)).expect("a vector takes one question");
    let mut builder = builder.additional();
    if edns {
        builder
            .opt(|opt| {
                opt.set_udp_payload_size(UDP_PAYLOAD);
                Ok(())
            })
            .expect("a vector takes one OPT record");
    }
    builder.finish()
}

/// Reads what came back for `question`.
#[must_use]
pub fn read(question: &[u8], octets: &[u8]) -> Reading {
    let (Ok(question), Ok(message)) = (Message::from_slice(question), Message::from_slice(octets)) else {
        return Reading::NotOurs;
    };
    if !message.is_answer(question) {
        // A server that could not read the question may send the header alone (RFC 1035 4.1.1: FORMERR).
        let header = message.header();
        let bare = header.qr() && header.id() == question.header().id();
        return if bare && message.header_counts().qdcount() == 0 && message.is_error() {
            Reading::Refusal(message.opt_rcode())
        } else {
            Reading::NotOurs
        };
    }
    if message.header().tc() {
        return Reading::Truncated;
    }
    match message.opt_rcode() {
        code @ (OptRcode::NOERROR | OptRcode::NXDOMAIN) => {
            content(message, code == OptRcode::NXDOMAIN).unwrap_or(Reading::Garbled("a broken record"))
        }
        code => Reading::Refusal(code),
    }
}

/// The answer that a matching message without an error code holds.
fn content(message: &Message<[u8]>, no_such_domain: bool) -> Result<Reading, ParseError> {
    let question = message.sole_question()?;
    let (rtype, mut owner): (Rtype, DnsName) = (question.qtype(), question.qname().flatten_into());
    let aliases = message
        .answer()?
        .limit_to_in::<Cname<_>>()
        .collect::<Result<Vec<_>, _>>()?;
    let mut keep = u32::MAX;
    let mut steps = 0;
    while rtype != Rtype::CNAME
        && let Some(alias) = aliases.iter().find(|alias| *alias.owner() == owner)
    {
        steps += 1;
        if steps > LONGEST_ALIAS_CHAIN {
            return Ok(Reading::Garbled("aliases without an end"));
        }
        keep = keep.min(alias.ttl().as_secs());
        owner = alias.data().cname().flatten_into();
    }

    let mut records = Vec::new();
    let mut about_others = false;
    for record in message.answer()? {
        let record = record?;
        if record.class() != Class::IN || record.owner() != owner {
            about_others = true;
            continue;
        }
        if record.rtype() != rtype {
            continue;
        }
        let ttl = record.ttl().as_secs();
        let said = match rtype {
            Rtype::MX => record
                .into_record::<Mx<ParsedName<_>>>()?
                .map(|mx| Record::Mx(mx.data().preference(), mx.data().exchange().flatten_into())),
            Rtype::A => record
                .into_record::<A>()?
                .map(|a| Record::Address(a.data().addr().into())),
            Rtype::AAAA => record
                .into_record::<Aaaa>()?
                .map(|a| Record::Address(a.data().addr().into())),
            Rtype::PTR => record
                .into_record::<Ptr<ParsedName<_>>>()?
                .map(|ptr| Record::Name(ptr.data().ptrdname().flatten_into())),
            _ => None,
        };
        if let Some(said) = said {
            keep = keep.min(ttl);
            records.push(said);
        }
    }
    if !records.is_empty() {
        return Ok(Reading::Answer(Answer::Records(records), seconds(keep)));
    }

    // RFC 2308 5: a negative answer is kept for the lesser of the SOA's own TTL and its minimum, and not at
    // all without an SOA.
    let authority = message.authority()?;
    let soa = authority.limit_to_in::<Soa<ParsedName<_>>>().next().transpose()?;
    let negative = soa
        .as_ref()
        .map_or(0, |soa| soa.ttl().as_secs().min(soa.data().minimum().as_secs()));
    Ok(if no_such_domain {
        Reading::Answer(Answer::NoSuchDomain, seconds(keep.min(negative)))
    } else if soa.is_some() {
        Reading::Answer(Answer::NoData, seconds(keep.min(negative)))
    } else if steps > 0 {
        Reading::Answer(Answer::Alias(owner), seconds(keep))
    } else if about_others {
        // "No MX" is too much to read into this.
        Reading::Garbled("records of another name")
    } else if message.header_counts().nscount() > 0 && !message.header().aa() {
        // Other servers are named instead of an answer. Whoever took this for "no MX" would bounce mail
        // because of a wrong `--dns`.
        Reading::Garbled("a referral: it does not resolve for others")
    } else {
        Reading::Answer(Answer::NoData, Duration::ZERO)
    })
}

/// RFC 2181 8: a TTL with the highest bit set is zero.
fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(u64::from(if ttl > u32::MAX / 2 { 0 } else { ttl }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::base::iana::Rcode;
    use domain::base::message_builder::AnswerBuilder;
    use domain::base::{Serial, Ttl};
    use proptest::prelude::*;

    fn n(text: &str) -> DnsName {
        name(text).unwrap()
    }

    fn asked(rtype: Rtype) -> Vec<u8> {
        question(7, &n("Example.ORG"), rtype, true)
    }

    fn answer(question: &[u8], code: Rcode) -> AnswerBuilder<Vec<u8>> {
        MessageBuilder::new_vec()
            .start_answer(Message::from_slice(question).unwrap(), code)
            .unwrap()
    }

    fn soa(minimum: u32) -> Soa<DnsName> {
        let (zero, minimum) = (Ttl::ZERO, Ttl::from_secs(minimum));
        Soa::new(n("ns.test"), n("root.test"), Serial(1), zero, zero, zero, minimum)
    }

    #[test]
    fn a_name_is_read_in_any_case_and_with_a_dot_at_its_end() {
        assert_eq!(name("Example.org."), name("example.ORG"));
        assert!(name("_dmarc.example.org").is_some());
    }

    #[test]
    fn what_cannot_stand_in_dns_is_no_name() {
        let long_label = format!("{}.org", "a".repeat(64));
        let long_name = "abcdefg.".repeat(32);
        for text in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a b",
            "a\\.b",
            "bücher.example",
            &long_label,
            &long_name,
        ] {
            assert_eq!(name(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_address_has_its_reverse_name() {
        for (address, reverse) in [
            ("192.0.2.10", "10.2.0.192.in-addr.arpa"),
            ("::ffff:192.0.2.10", "10.2.0.192.in-addr.arpa"),
            (
                "2001:db8::567:89ab",
                "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
            ),
        ] {
            assert_eq!(reverse_name(address.parse().unwrap()), n(reverse));
        }
    }

    #[test]
    fn names_of_an_address_are_read_through_an_alias() {
        // RFC 2317: whoever has less than a whole /24 has aliases in it.
        let q = question(7, &n("1.2.0.192.in-addr.arpa"), Rtype::PTR, true);
        let mut a = answer(&q, Rcode::NOERROR);
        let there = n("1.0/25.2.0.192.in-addr.arpa");
        a.push((n("1.2.0.192.in-addr.arpa"), 300, Cname::new(there.clone())))
            .unwrap();
        a.push((there, 60, Ptr::new(n("mail.test")))).unwrap();
        assert_eq!(
            read(&q, &a.finish()),
            Reading::Answer(
                Answer::Records(vec![Record::Name(n("mail.test"))]),
                Duration::from_secs(60)
            )
        );
    }

    #[test]
    fn records_come_with_the_least_ttl() {
        let q = asked(Rtype::MX);
        let mut a = answer(&q, Rcode::NOERROR);
        a.push((n("example.org"), 300, Mx::new(10, n("a.test")))).unwrap();
        a.push((n("example.org"), 60, Mx::new(20, n("b.test")))).unwrap();
        a.push((n("other.org"), 1, Mx::new(0, n("evil.test")))).unwrap();
        let records = vec![Record::Mx(10, n("a.test")), Record::Mx(20, n("b.test"))];
        assert_eq!(
            read(&q, &a.finish()),
            Reading::Answer(Answer::Records(records), Duration::from_secs(60))
        );
    }

    #[test]
    fn aliases_inside_an_answer_are_followed() {
        let q = asked(Rtype::A);
        let mut a = answer(&q, Rcode::NOERROR);
        a.push((n("b.test"), 300, A::from_octets(192, 0, 2, 1))).unwrap();
        a.push((n("a.test"), 10, Cname::new(n("b.test")))).unwrap();
        a.push((n("example.org"), 300, Cname::new(n("a.test")))).unwrap();
        let records = vec![Record::Address("192.0.2.1".parse().unwrap())];
        assert_eq!(
            read(&q, &a.finish()),
            Reading::Answer(Answer::Records(records), Duration::from_secs(10))
        );
    }

    #[test]
    fn an_alias_out_of_the_answer_is_given_back() {
        let q = asked(Rtype::A);
        let mut a = answer(&q, Rcode::NOERROR);
        a.push((n("example.org"), 30, Cname::new(n("a.test")))).unwrap();
        assert_eq!(
            read(&q, &a.finish()),
            Reading::Answer(Answer::Alias(n("a.test")), Duration::from_secs(30))
        );
    }

    #[test]
    fn an_alias_of_itself_is_garbled() {
        let q = asked(Rtype::A);
        let mut a = answer(&q, Rcode::NOERROR);
        a.push((n("example.org"), 30, Cname::new(n("example.org"))))
            .unwrap();
        assert!(matches!(read(&q, &a.finish()), Reading::Garbled(_)));
    }

    #[test]
    fn a_negative_answer_is_kept_for_the_lesser_of_soa_ttl_and_minimum() {
        let q = asked(Rtype::A);
        for (code, expected) in [
            (Rcode::NXDOMAIN, Answer::NoSuchDomain),
            (Rcode::NOERROR, Answer::NoData),
        ] {
            for (ttl, minimum) in [(20, 900), (900, 20)] {
                let mut a = answer(&q, code).authority();
                a.push((n("org"), ttl, soa(minimum))).unwrap();
                let kept = Duration::from_secs(20);
                assert_eq!(read(&q, &a.finish()), Reading::Answer(expected.clone(), kept));
            }
            let bare = answer(&q, code).finish();
            assert_eq!(read(&q, &bare), Reading::Answer(expected, Duration::ZERO));
        }
    }

    #[test]
    fn a_referral_is_not_taken_for_no_data() {
        let q = asked(Rtype::MX);
        let mut a = answer(&q, Rcode::NOERROR).authority();
        a.push((n("org"), 60, domain::rdata::Ns::new(n("ns.test"))))
            .unwrap();
        assert!(matches!(read(&q, &a.finish()), Reading::Garbled(_)));
    }

    #[test]
    fn an_answer_about_another_name_alone_is_not_taken_for_no_data() {
        let q = asked(Rtype::MX);
        let mut a = answer(&q, Rcode::NOERROR);
        a.push((n("example.com"), 60, Mx::new(0, n("evil.test"))))
            .unwrap();
        assert!(matches!(read(&q, &a.clone().finish()), Reading::Garbled(_)));
        let mut a = a.authority();
        a.push((n("org"), 60, soa(60))).unwrap();
        let no_data = Reading::Answer(Answer::NoData, Duration::from_secs(60));
        assert_eq!(read(&q, &a.finish()), no_data);
    }

    #[test]
    fn a_long_chain_of_aliases_is_followed() {
        let q = asked(Rtype::A);
        let mut a = answer(&q, Rcode::NOERROR);
        let names: Vec<DnsName> = (0..12).map(|i| n(&format!("a{i}.test"))).collect();
        a.push((n("example.org"), 60, Cname::new(names[0].clone())))
            .unwrap();
        for pair in names.windows(2) {
            a.push((pair[0].clone(), 60, Cname::new(pair[1].clone())))
                .unwrap();
        }
        a.push((names[11].clone(), 60, A::from_octets(192, 0, 2, 1)))
            .unwrap();
        let record = Record::Address("192.0.2.1".parse().unwrap());
        assert_eq!(
            read(&q, &a.finish()),
            Reading::Answer(Answer::Records(vec![record]), Duration::from_secs(60))
        );
    }

    #[test]
    fn a_name_that_points_to_itself_is_a_broken_record() {
        let q = asked(Rtype::MX);
        let mut a = answer(&q, Rcode::NOERROR).finish();
        a[7] = 1;
        let here = a.len() as u8;
        // The owner is a pointer to this very pointer; or to the one behind it, which points back.
        for to in [here, here + 2] {
            let mut octets = a.clone();
            octets.extend([0xc0, to, 0xc0, here]);
            octets.extend([0, 15, 0, 1, 0, 0, 0, 60, 0, 4, 0, 10, 0xc0, 12]);
            assert!(matches!(read(&q, &octets), Reading::Garbled(_)), "{to}");
        }
    }

    #[test]
    fn the_case_in_which_the_question_comes_back_does_not_matter() {
        let q = asked(Rtype::A);
        let mut a = answer(&q, Rcode::NOERROR);
        a.push((n("eXAMPLE.oRG"), 60, A::from_octets(192, 0, 2, 1)))
            .unwrap();
        let mut octets = a.finish();
        octets[13..20].make_ascii_uppercase();
        assert!(matches!(
            read(&q, &octets),
            Reading::Answer(Answer::Records(_), _)
        ));
    }

    #[test]
    fn another_id_another_question_and_a_question_itself_are_not_ours() {
        let q = asked(Rtype::A);
        let id = question(8, &n("example.org"), Rtype::A, true);
        let name = question(7, &n("example.com"), Rtype::A, true);
        let rtype = asked(Rtype::AAAA);
        for other in [id, name, rtype] {
            assert_eq!(
                read(&q, &answer(&other, Rcode::NOERROR).finish()),
                Reading::NotOurs
            );
        }
        assert_eq!(read(&q, &q), Reading::NotOurs);
        assert_eq!(read(&q, b"garbage"), Reading::NotOurs);
    }

    #[test]
    fn refusals_are_told_apart_from_answers() {
        let q = asked(Rtype::A);
        assert_eq!(
            read(&q, &answer(&q, Rcode::SERVFAIL).finish()),
            Reading::Refusal(OptRcode::SERVFAIL)
        );
        let mut header_alone = answer(&q, Rcode::FORMERR).builder();
        header_alone.header_mut().set_rcode(Rcode::FORMERR);
        assert_eq!(
            read(&q, &header_alone.finish()),
            Reading::Refusal(OptRcode::FORMERR)
        );
        // BADVERS lives half in the OPT record, and its half in the header reads NOERROR.
        let mut badvers = answer(&q, Rcode::NOERROR).additional();
        badvers
            .opt(|opt| {
                opt.set_rcode(OptRcode::BADVERS);
                Ok(())
            })
            .unwrap();
        assert_eq!(read(&q, &badvers.finish()), Reading::Refusal(OptRcode::BADVERS));
    }

    #[test]
    fn a_truncated_answer_and_a_broken_record_are_seen() {
        let q = asked(Rtype::A);
        let mut a = answer(&q, Rcode::NOERROR);
        a.push((n("example.org"), 60, A::from_octets(192, 0, 2, 1)))
            .unwrap();
        let whole = a.clone().finish();
        assert!(matches!(read(&q, &whole[..whole.len() - 2]), Reading::Garbled(_)));
        a.header_mut().set_tc(true);
        assert_eq!(read(&q, &a.finish()), Reading::Truncated);
    }

    #[test]
    fn a_ttl_with_the_highest_bit_is_zero() {
        assert_eq!(seconds(u32::MAX), Duration::ZERO);
        assert_eq!(seconds(5), Duration::from_secs(5));
    }

    proptest! {
        #[test]
        fn any_octets_after_our_question_are_read_without_a_panic(
            tail in proptest::collection::vec(any::<u8>(), 0..200),
            counts in proptest::collection::vec(0u8..4, 3),
            noise in any::<u8>(),
        ) {
            let mut octets = asked(Rtype::MX);
            octets.truncate(octets.len() - 11); // the OPT record
            octets[2] = 0x80 | (noise & 0x04);
            (octets[7], octets[9], octets[11]) = (counts[0], counts[1], counts[2]);
            octets.extend(tail);
            let _ = read(&asked(Rtype::MX), &octets);
        }
    }
}
