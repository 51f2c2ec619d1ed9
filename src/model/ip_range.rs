//! Ranges of addresses: one address or a CIDR, IPv4 and IPv6 apart.
//!
//! An IPv4 address that is written as IPv6 becomes IPv4 once, by [`canonical`], in a range as in an
//! address: no spelling passes a rule that another does not.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::error::InvalidField;

/// An address or a CIDR, without bits behind its prefix. It prints as it is stored and parses back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpRange {
    network: IpAddr,
    prefix: u8,
}

/// First and last of some addresses of one family, as numbers.
pub(super) type Span = (u128, u128);

/// Either kind of address. No range holds both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// Where IPv6 holds IPv4: the form `::a.b.c.d` that RFC 4291 gave up (without `::` and `::1`), its
/// mapped form `::ffff:0:0/96`, and what a translator makes of a caller (`64:ff9b::/96`, RFC 6052).
const IPV4_IN_IPV6: [Span; 3] = [
    (2, 0xffff_ffff),
    (0xffff_0000_0000, 0xffff_ffff_ffff),
    (0x64_ff9b << 96, (0x64_ff9b << 96) + 0xffff_ffff),
];

/// The one form of an address that rules are asked about.
pub fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(inner) => ipv4_in(inner).map_or(address, IpAddr::V4),
    }
}

fn ipv4_in(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let number = address.to_bits();
    let [.., a, b, c, d] = address.octets();
    let is_within = |(first, last): &Span| (*first..=*last).contains(&number);
    IPV4_IN_IPV6.iter().any(is_within).then(|| Ipv4Addr::new(a, b, c, d))
}

impl IpRange {
    /// Whether an address, in whatever spelling, lies within.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = canonical(address);
        let (first, last) = self.span();
        Family::of(address) == self.family() && (first..=last).contains(&number(address))
    }

    /// Whether it is every address of its family.
    pub fn is_wildcard(&self) -> bool {
        self.prefix == 0
    }

    pub(super) fn family(&self) -> Family {
        Family::of(self.network)
    }

    pub(super) fn span(&self) -> Span {
        let first = number(self.network);
        (first, first | self.host_bits())
    }

    /// A number with a one for each bit behind the prefix.
    fn host_bits(&self) -> u128 {
        let bits = self.family().bits().saturating_sub(self.prefix);
        1_u128.checked_shl(bits.into()).map_or(u128::MAX, |size| size - 1)
    }

    /// The range as IPv4, if it is one of IPv4 addresses in IPv6.
    fn canonical(self) -> Self {
        match (canonical(self.network), self.prefix.checked_sub(96)) {
            (network @ IpAddr::V4(_), Some(prefix)) if self.network.is_ipv6() => {
                Self { network, prefix }
            }
            _ => self,
        }
    }

    /// The range that this one lies in, with nothing behind its prefix.
    fn without_host_bits(self) -> Self {
        let network = number(self.network) & !self.host_bits();
        Self { network: self.family().address(network), ..self }
    }
}

/// An address as a number; which family it is of is told apart.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    pub(super) fn address(self, number: u128) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
            Self::V6 => Ipv6Addr::from_bits(number).into(),
        }
    }

    /// All addresses that can be written.
    pub(super) fn everything(self) -> Span {
        match self {
            Self::V4 => (0, u32::MAX.into()),
            Self::V6 => (0, u128::MAX),
        }
    }

    /// Those among them that are never asked about, since they are of the other family.
    pub(super) fn elsewhere(self) -> &'static [Span] {
        match self {
            Self::V4 => &[],
            Self::V6 => &IPV4_IN_IPV6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == self.family().bits() {
            write!(f, "{}", self.network)
        } else {
            write!(f, "{}/{}", self.network, self.prefix)
        }
    }
}

impl serde::Serialize for IpRange {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for IpRange {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "IpRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "An IPv4 or IPv6 address, or a CIDR without host bits.",
            "examples": ["192.0.2.7", "192.0.2.0/24", "2001:db8::/32"],
        })
    }
}

/// A text that is no range; it says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidIpRange(Cow<'static, str>);

impl fmt::Display for InvalidIpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidIpRange {}

impl FromStr for IpRange {
    type Err = InvalidIpRange;

    fn from_str(text: &str) -> Result<Self, InvalidIpRange> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let network: IpAddr = address.parse().map_err(|_| no_address(address))?;
        let bits = Family::of(network).bits();
        let prefix = prefix.map_or(Ok(bits), |prefix| parse_prefix(prefix, bits))?;
        let range = Self { network, prefix }.canonical();
        if range == range.without_host_bits() { Ok(range) } else { Err(host_bits_set(range)) }
    }
}

/// Reads each item, and says of each that is no range what is wrong with it.
pub(crate) fn parse_ranges(
    field: &'static str,
    items: &[String],
    wrong: &mut Vec<InvalidField>,
) -> Vec<IpRange> {
    let mut ranges = Vec::with_capacity(items.len());
    for item in items {
        match item.parse() {
            Ok(range) => ranges.push(range),
            Err(cause) => {
                let message = format!("`{item}`: {cause}");
                wrong.push(InvalidField { field: field.into(), message });
            }
        }
    }
    ranges
}

fn parse_prefix(text: &str, bits: u8) -> Result<u8, InvalidIpRange> {
    // `u8` itself would take `+8` and `08`
    let is_plain =
        text == "0" || text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    let prefix = text.parse().ok().filter(|prefix| is_plain && *prefix <= bits);
    let fault = || format!("behind the `/` stands a number from 0 to {bits}, like `/{bits}`");
    prefix.ok_or_else(|| InvalidIpRange(fault().into()))
}

fn host_bits_set(range: IpRange) -> InvalidIpRange {
    // whoever writes `::ffff:10.0.0.0/8` means eight bits of the IPv4 address
    let fixed = match canonical(range.network) {
        network @ IpAddr::V4(_) if range.prefix <= 32 => IpRange { network, ..range },
        _ => range,
    }
    .without_host_bits();
    let message = format!("bits are set behind the prefix: write `{fixed}`");
    InvalidIpRange(message.into())
}

/// Why a text is no address, as far as it can be told.
fn no_address(text: &str) -> InvalidIpRange {
    let fault = if text.is_empty() {
        "no address is given".into()
    } else if text.contains(char::is_whitespace) {
        "an entry is one address or one range, without blanks".into()
    } else if let Some((address, _)) = text.split_once('%') {
        format!("an address here has no zone: write `{address}`").into()
    } else if let Ok(socket) = text.parse::<SocketAddr>() {
        format!("an address here has no port: write `{}`", socket.ip()).into()
    } else if let Some(fixed) = without_leading_zeros(text) {
        format!("a leading zero means octal to some readers: write `{fixed}`").into()
    } else if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        "an IPv4 address is four numbers from 0 to 255, as in `10.0.0.0/8`".into()
    } else {
        "this is no address: write one like `192.0.2.7`, `192.0.2.0/24` or `2001:db8::/32`".into()
    };
    InvalidIpRange(fault)
}

fn without_leading_zeros(text: &str) -> Option<Ipv4Addr> {
    let numbers: Vec<String> = text
        .split('.')
        .map(|number| number.parse::<u8>().ok().map(|n| n.to_string()))
        .collect::<Option<_>>()?;
    numbers.join(".").parse().ok()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(text: &str) -> IpRange {
        text.parse().unwrap_or_else(|cause| panic!("{text}: {cause}"))
    }

    fn fault(text: &str) -> String {
        match text.parse::<IpRange>() {
            Ok(range) => panic!("{text} is taken as {range}"),
            Err(cause) => cause.to_string(),
        }
    }

    #[test]
    fn a_range_is_printed_in_one_form() {
        for (text, printed) in [
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1/32", "10.0.0.1"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:DB8:0:0::/32", "2001:db8::/32"),
            ("2001:0db8::0001/128", "2001:db8::1"),
            ("::/0", "::/0"),
            ("::", "::"),
            ("::1", "::1"),
            ("::/96", "::/96"),
        ] {
            assert_eq!(range(text).to_string(), printed);
        }
    }

    #[test]
    fn ipv4_in_ipv6_is_ipv4() {
        for (text, printed) in [
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::ffff:c000:201/128", "192.0.2.1"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::FFFF:10.0.0.0/104", "10.0.0.0/8"),
            ("64:ff9b::192.0.2.0/120", "192.0.2.0/24"),
            ("::192.0.2.1", "192.0.2.1"),
            // wider than what is IPv4 in it
            ("64:ff9b::/95", "64:ff9b::/95"),
        ] {
            assert_eq!(range(text).to_string(), printed);
        }
        assert!(!range("::/0").contains("::ffff:192.0.2.1".parse().unwrap()));
        assert!(range("192.0.2.0/24").contains("64:ff9b::c000:201".parse().unwrap()));
    }

    #[test]
    fn what_is_no_canonical_range_is_refused_with_the_fix() {
        for (text, fix) in [
            ("10.0.0.1/8", "write `10.0.0.0/8`"),
            ("0.0.0.1/0", "write `0.0.0.0/0`"),
            ("2001:db8::1/64", "write `2001:db8::/64`"),
            ("::ffff:10.0.0.1/104", "write `10.0.0.0/8`"),
            ("::ffff:10.0.0.0/8", "write `10.0.0.0/8`"),
            ("10.0.0.0/33", "0 to 32"),
            ("2001:db8::/129", "0 to 128"),
            ("::ffff:10.0.0.0/129", "0 to 128"),
            ("10.0.0.0/", "0 to 32"),
            ("10.0.0.0/+8", "0 to 32"),
            ("10.0.0.0/08", "0 to 32"),
            ("10.0.0.0/00", "0 to 32"),
            ("10.0.0.0/-1", "0 to 32"),
            ("10.0.0.0/8/8", "0 to 32"),
            ("10.0.0.0/ 8", "0 to 32"),
            ("10.0.0.0/256", "0 to 32"),
            ("10.0.0.0/255.0.0.0", "0 to 32"),
            ("010.0.0.1", "write `10.0.0.1`"),
            ("192.0.02.0/24", "write `192.0.2.0`"),
            ("10/8", "four numbers"),
            ("10.1", "four numbers"),
            ("3232235777", "four numbers"),
            ("256.0.0.1", "four numbers"),
            ("10.0.0.0.0", "four numbers"),
            ("0x7f.0.0.1", "no address"),
            ("fe80::1%eth0", "write `fe80::1`"),
            ("fe80::%1/64", "write `fe80::`"),
            ("10.0.0.1:80", "write `10.0.0.1`"),
            ("[2001:db8::1]:80", "write `2001:db8::1`"),
            ("[2001:db8::1]", "no address"),
            ("2001:db8::1::", "no address"),
            ("::ffff:010.0.0.1", "no address"),
            ("localhost", "no address"),
            ("*", "no address"),
            ("\u{661}.1.1.1", "no address"),
            ("", "no address is given"),
            ("/8", "no address is given"),
            (" 10.0.0.1", "without blanks"),
            ("10.0.0.1 ", "without blanks"),
            ("10.0.0.1\n", "without blanks"),
        ] {
            assert!(fault(text).contains(fix), "{text:?}: {}", fault(text));
        }
    }

    #[test]
    fn the_families_are_apart() {
        assert!(!range("0.0.0.0/0").contains("2001:db8::1".parse().unwrap()));
        assert!(!range("::/0").contains("10.0.0.1".parse().unwrap()));
        assert!(!range("::1").contains("0.0.0.1".parse().unwrap()));
        assert!(range("::1").contains("::1".parse().unwrap()));
    }

    #[test]
    fn a_range_is_small_and_a_text_in_json() {
        assert!(size_of::<IpRange>() <= 18);
        let json = serde_json::to_string(&range("10.0.0.0/8")).unwrap();
        assert_eq!(json, "\"10.0.0.0/8\"");
        let schema = schemars::schema_for!(IpRange);
        assert_eq!(schema.get("type").unwrap(), "string");
    }

    /// Any address; those that are near IPv4 in IPv6 more often than chance would have it.
    fn an_address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).into()),
            any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(bits).into()),
            (0..3_usize, any::<u32>(), 0..3_u128).prop_map(|(form, bits, beside)| {
                let first = IPV4_IN_IPV6[form].0 & !0xffff_ffff;
                let beside = (beside << 32).wrapping_sub(1 << 32);
                Ipv6Addr::from_bits((first | u128::from(bits)).wrapping_add(beside)).into()
            }),
        ]
    }

    /// Any range, made of an address by cutting it off.
    pub(in crate::model) fn a_range() -> impl Strategy<Value = IpRange> {
        (an_address(), 0..=128_u8).prop_map(|(network, prefix)| {
            let prefix = prefix % (Family::of(network).bits() + 1);
            IpRange { network, prefix }.without_host_bits().canonical()
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_back(range in a_range()) {
            prop_assert_eq!(range.to_string().parse(), Ok(range));
        }

        #[test]
        fn a_range_holds_its_ends_and_not_what_is_beside_them(range in a_range()) {
            let (first, last) = range.span();
            let family = range.family();
            let holds = |number| range.contains(family.address(number));
            let elsewhere = |number: u128| {
                family.elsewhere().iter().any(|(first, last)| (*first..=*last).contains(&number))
            };
            prop_assert!(holds(first) != elsewhere(first));
            prop_assert!(holds(last) != elsewhere(last));
            prop_assert!(first == 0 || !holds(first - 1));
            prop_assert!(last == family.everything().1 || !holds(last + 1));
        }

        #[test]
        fn every_spelling_has_the_same_verdict(
            bits in 2..u32::MAX,
            flip in 0..33_u32,
            prefix in 0..33_u8,
        ) {
            let address = Ipv4Addr::from_bits(bits);
            let near = Ipv4Addr::from_bits(bits ^ 1_u32.checked_shl(flip).unwrap_or(0));
            let range = IpRange { network: near.into(), prefix }.without_host_bits();
            let expected = range.contains(address.into());
            prop_assert_eq!(expected, flip == 32 || u32::from(prefix) < 32 - flip);
            for form in ["::ffff:", "::", "64:ff9b::"] {
                let spelled: Ipv6Addr = format!("{form}{address}").parse().unwrap();
                prop_assert_eq!(range.contains(spelled.into()), expected, "{}", spelled);
                let alone: IpRange = spelled.to_string().parse().unwrap();
                prop_assert_eq!(alone.to_string(), address.to_string());
                let network = number(range.network);
                let wide = format!("{form}{}/{}", range.network, prefix + 96).parse::<IpRange>();
                prop_assert!(network < 2 || wide == Ok(range), "{:?}", wide);
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-9a-f:./%\\[\\] ]{0,24}") {
            if let Ok(range) = text.parse::<IpRange>() {
                prop_assert_eq!(range.to_string().parse(), Ok(range));
            }
        }
    }
}
