//! Who is counted as one: an IPv4 address, or of IPv6 the network of 64 bits that one customer gets.

use std::net::IpAddr;

use crate::model::ip_range::canonical;

/// Where something came from, in 8 bytes. All whose address cannot be told are one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(u64);

impl Source {
    /// The source that an address belongs to, in whatever spelling.
    pub fn of(address: Option<IpAddr>) -> Self {
        Self(match address.map(canonical) {
            // where IPv6 has groups (`ff00::/8`), which nobody sends from
            Some(IpAddr::V4(address)) => 0xffff_ffff << 32 | u64::from(u32::from(address)),
            Some(IpAddr::V6(address)) => u64::try_from(address.to_bits() >> 64).unwrap_or(u64::MAX),
            // where IPv4 has its broadcast
            None => u64::MAX,
        })
    }

    /// The same as a number, for tables that hold it so.
    pub const fn as_bits(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Source {
        Source::of(Some(text.parse().unwrap()))
    }

    #[test]
    fn an_address_is_one_source_in_every_spelling_and_a_network_of_ipv6_is_one() {
        for text in ["::ffff:192.0.2.1", "64:ff9b::192.0.2.1", "::192.0.2.1"] {
            assert_eq!(of(text), of("192.0.2.1"), "{text}");
        }
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:ffff:ffff:ffff"));
        let different = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1", "::1"];
        let mut sources: Vec<u64> = different.iter().map(|text| of(text).as_bits()).collect();
        sources.push(Source::of(None).as_bits());
        sources.sort_unstable();
        sources.dedup();
        assert_eq!(sources.len(), different.len() + 1);
    }
}
