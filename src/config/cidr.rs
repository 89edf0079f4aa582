//! A block of IP addresses, `192.0.2.0/24` (RFC 4632).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::values::{Expected, Parsed};

/// An address and the length of its prefix in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The block of `address` with the first `prefix` bits fixed.
    ///
    /// # Errors
    /// Gives `None` when the prefix is longer than the address.
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Option<Cidr> {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= longest).then_some(Cidr { address, prefix })
    }

    /// Reads `192.0.2.0/24`; an address alone is a block of one. IPv4 in IPv6 clothes
    /// (`::ffff:192.0.2.0/120`) becomes IPv4, as [`Cidr::contains`] looks at it.
    ///
    /// # Errors
    /// Says the form, or the block that the prefix would give when bits are set behind it.
    pub fn parse(text: &str) -> Parsed<Cidr> {
        let form =
            || Expected("a block of addresses, such as 192.0.2.0/24, 2001:db8::/32 or 192.0.2.1".into());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| form())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => super::values::whole(prefix, 0, longest).map_err(|_| form())?,
            None => longest,
        };
        let block = match address.to_canonical() {
            IpAddr::V4(v4) if address.is_ipv6() && prefix >= 96 => {
                Cidr::new(IpAddr::V4(v4), octet(prefix - 96))
            }
            _ => Cidr::new(address, octet(prefix)),
        };
        let block = block.ok_or_else(form)?;
        let first = Cidr {
            address: block.first(),
            ..block
        };
        if first == block {
            Ok(block)
        } else {
            Err(Expected(format!(
                "{first} (the bits behind the prefix must be 0)"
            )))
        }
    }

    /// The address that it was made of: where it was read, the first one.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits are fixed.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The first address of the block.
    fn first(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        }
    }

    /// Whether `address` lies in this block. An IPv4 address in IPv6 clothes (`::ffff:192.0.2.1`) counts as
    /// IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(block), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                (u32::from(block) ^ u32::from(address)) & mask == 0
            }
            (IpAddr::V6(block), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                (u128::from(block) ^ u128::from(address)) & mask == 0
            }
            _ => false,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A prefix that is known to be at most 128.
fn octet(prefix: u64) -> u8 {
    u8::try_from(prefix).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(block: &str, address: &str) -> bool {
        Cidr::parse(block).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn an_address_alone_is_a_block_of_one() {
        assert_eq!(Cidr::parse("192.0.2.1").unwrap().to_string(), "192.0.2.1/32");
        assert_eq!(Cidr::parse("::1").unwrap().to_string(), "::1/128");
        assert!(covers("192.0.2.1", "192.0.2.1") && !covers("192.0.2.1", "192.0.2.2"));
    }

    #[test]
    fn a_block_covers_its_first_and_last_address_and_not_their_neighbours() {
        assert!(covers("10.0.0.0/8", "10.0.0.0") && covers("10.0.0.0/8", "10.255.255.255"));
        assert!(!covers("10.0.0.0/8", "9.255.255.255") && !covers("10.0.0.0/8", "11.0.0.0"));
        assert!(covers("2001:db8::/33", "2001:db8:7fff::1") && !covers("2001:db8::/33", "2001:db8:8000::"));
        assert!(covers("0.0.0.0/0", "255.255.255.255") && covers("::/0", "ffff::"));
    }

    #[test]
    fn ipv4_in_ipv6_clothes_is_ipv4() {
        assert!(covers("127.0.0.0/8", "::ffff:127.0.0.1"));
        assert_eq!(
            Cidr::parse("::ffff:127.0.0.0/104").unwrap().to_string(),
            "127.0.0.0/8"
        );
        assert!(!covers("::/0", "192.0.2.1"));
    }

    #[test]
    fn bits_behind_the_prefix_are_an_error_that_names_the_block() {
        let told = Cidr::parse("192.168.1.7/24").unwrap_err().to_string();
        assert_eq!(
            told,
            "expected 192.168.1.0/24 (the bits behind the prefix must be 0)"
        );
    }

    #[test]
    fn what_is_no_address_or_too_long_a_prefix_is_refused() {
        for wrong in [
            "",
            "/8",
            "10/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "::/129",
            "localhost",
            "10.0.0.0/8/8",
        ] {
            assert!(Cidr::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
