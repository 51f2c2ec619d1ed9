//! Address rules of an API key, as its tokens carry them in `net` (docs/contract.md, "The token").
//!
//! IPv4 and IPv6 are apart, and an IPv4-mapped IPv6 address is IPv4. Whose address the caller's is,
//! is not decided here.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::de::{Error, MapAccess};
use serde::{Serialize, Serializer};

use crate::error::{InvalidToken, SyntaxError, shown};
use crate::json::{Members, Text};

/// From where the tokens of a key may be used: an allow list and a block list, one of them at least
/// with an entry.
///
/// Verifying a token does not look at it, because only the API knows who called: ask
/// [`Net::allows`] with the address of the caller, which behind a proxy is not that of the socket.
///
/// ```
/// use tenmint_verifier::Net;
///
/// let net = Net::from_lists(["10.0.0.0/8".parse()?], ["10.1.0.0/16".parse()?]).unwrap();
/// assert!(net.allows("10.2.0.1".parse().unwrap()));
/// assert!(!net.allows("10.1.0.1".parse().unwrap()), "block wins");
/// assert!(!net.allows("2001:db8::1".parse().unwrap()), "no IPv6 address is allowed");
/// # Ok::<(), tenmint_verifier::SyntaxError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Net {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    allow: Box<[IpRange]>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    block: Box<[IpRange]>,
}

impl Net {
    /// The rules of these lists; none where both are empty, since that restricts nobody.
    ///
    /// ```
    /// use tenmint_verifier::Net;
    /// let net = Net::from_lists([], ["192.0.2.1".parse()?]);
    /// assert_eq!(serde_json::to_string(&net).unwrap(), r#"{"block":["192.0.2.1"]}"#);
    /// assert!(Net::from_lists([], []).is_none());
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn from_lists(
        allow: impl IntoIterator<Item = IpRange>,
        block: impl IntoIterator<Item = IpRange>,
    ) -> Option<Self> {
        let net = Self { allow: allow.into_iter().collect(), block: block.into_iter().collect() };
        (!net.allow.is_empty() || !net.block.is_empty()).then_some(net)
    }

    /// Whether a caller of this address may use the token.
    ///
    /// The block list wins. An empty allow list allows all; any other allows what it names, so
    /// nobody of a family it does not name.
    ///
    /// ```
    /// # use tenmint_verifier::Net;
    /// let net = Net::from_lists([], ["192.0.2.0/24".parse()?]).unwrap();
    /// assert!(net.allows("2001:db8::1".parse().unwrap()));
    /// assert!(!net.allows("::ffff:192.0.2.1".parse().unwrap()), "this is 192.0.2.1");
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn allows(&self, caller: IpAddr) -> bool {
        let names = |list: &[IpRange]| list.iter().any(|range| range.contains(caller));
        !names(&self.block) && (self.allow.is_empty() || names(&self.allow))
    }

    /// The ranges that are allowed; empty where all are.
    ///
    /// ```
    /// # use tenmint_verifier::Net;
    /// let net = Net::from_lists(["10.0.0.0/8".parse()?], []).unwrap();
    /// assert_eq!(net.allow_list().len(), 1);
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn allow_list(&self) -> &[IpRange] {
        &self.allow
    }

    /// The ranges that are blocked, whatever is allowed.
    ///
    /// ```
    /// # use tenmint_verifier::Net;
    /// let net = Net::from_lists(["10.0.0.0/8".parse()?], []).unwrap();
    /// assert!(net.block_list().is_empty());
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn block_list(&self) -> &[IpRange] {
        &self.block
    }
}

/// An address, or all addresses of a CIDR block, of IPv4 or of IPv6.
///
/// `::ffff:0:0/96` is IPv4 in another spelling and becomes IPv4, and so do `64:ff9b::/96` (NAT64) and
/// `::a.b.c.d`; a shorter IPv6 prefix holds no IPv4 address. Printing gives the canonical text: the prefix only where it is not the whole address.
///
/// ```
/// use tenmint_verifier::IpRange;
///
/// let range: IpRange = "::ffff:10.0.0.0/104".parse()?;
/// assert_eq!(range.to_string(), "10.0.0.0/8");
/// assert!(range.contains("10.1.2.3".parse().unwrap()));
/// # Ok::<(), tenmint_verifier::SyntaxError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpRange {
    network: IpAddr,
    prefix: u8,
}

impl IpRange {
    /// Whether the address is one of the range. An IPv4-mapped IPv6 address is IPv4.
    ///
    /// ```
    /// # use tenmint_verifier::IpRange;
    /// let every_ipv6: IpRange = "::/0".parse()?;
    /// assert!(every_ipv6.contains("2001:db8::1".parse().unwrap()));
    /// assert!(!every_ipv6.contains("192.0.2.1".parse().unwrap()));
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn contains(&self, address: IpAddr) -> bool {
        // what is left of the other family is of the other family still, so it differs
        masked(canonical(address), self.prefix) == self.network
    }

    fn canonical(network: IpAddr, prefix: u8) -> Self {
        let mapped = match network {
            IpAddr::V6(address) if prefix >= EMBEDDING_PREFIX => ipv4_in(address),
            _ => None,
        };
        match mapped {
            Some(address) => Self { network: address.into(), prefix: prefix - EMBEDDING_PREFIX },
            None => Self { network, prefix },
        }
    }
}

/// The length of the prefixes under which IPv6 spells IPv4 addresses.
const EMBEDDING_PREFIX: u8 = 96;

/// IPv4 in the spellings of IPv6: mapped and compatible (RFC 4291, section 2.5.5), and what NAT64
/// makes of it (RFC 6052, section 2.1). `::` and `::1` are addresses of their own.
fn ipv4_in(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., a, b, c, d] = address.octets();
    let ipv4 = Ipv4Addr::new(a, b, c, d);
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(ipv4),
        [0, 0, 0, 0, 0, 0, ..] if ipv4.to_bits() > 1 => Some(ipv4),
        _ => None,
    }
}

/// The one form of an address that rules are asked about.
fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(inner) => ipv4_in(inner).map_or(address, IpAddr::V4),
    }
}

impl FromStr for IpRange {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| {
            let shown = shown(text);
            SyntaxError::new(format!(
                "`{shown}` is no address and no range: write `192.0.2.1` or `2001:db8::/32`"
            ))
        })?;
        let longest = bits(address);
        let prefix = prefix.map_or(Some(longest), |prefix| parse_prefix(prefix, longest));
        let Some(prefix) = prefix else {
            return Err(SyntaxError::new(format!(
                "`{}` needs a prefix from `/0` to `/{longest}`",
                shown(text)
            )));
        };
        let network = masked(address, prefix);
        let range = Self::canonical(network, prefix);
        if network != address {
            let shown = shown(text);
            return Err(SyntaxError::new(format!("`{shown}` has host bits set: write `{range}`")));
        }
        Ok(range)
    }
}

/// Digits and nothing else, no zero before them: `parse` alone would take `+8` and `08`.
fn parse_prefix(text: &str, longest: u8) -> Option<u8> {
    let prefix: u8 = text.parse().ok()?;
    (prefix <= longest && prefix.to_string() == text).then_some(prefix)
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address with all bits behind the prefix at zero.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let host_bits = u32::from(bits(address).saturating_sub(prefix));
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == bits(self.network) {
            return self.network.fmt(f);
        }
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl fmt::Debug for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IpRange({self})")
    }
}

impl Serialize for IpRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `net` as it stands in a token.
#[derive(Default)]
pub(crate) struct RawNet {
    allow: Option<Vec<IpRange>>,
    block: Option<Vec<IpRange>>,
}

impl RawNet {
    /// The rules. A list that is there has an entry: an empty allow list could mean nobody to one
    /// reader and everybody to another.
    pub(crate) fn require(self) -> Result<Net, InvalidToken> {
        let is_empty = |list: &Option<Vec<IpRange>>| list.as_ref().is_some_and(Vec::is_empty);
        if is_empty(&self.allow) || is_empty(&self.block) {
            return Err(InvalidToken::BadClaims);
        }
        let (allow, block) = (self.allow.unwrap_or_default(), self.block.unwrap_or_default());
        Net::from_lists(allow, block).ok_or(InvalidToken::BadClaims)
    }
}

impl<'de> Members<'de> for RawNet {
    fn member<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "allow" => self.allow = Some(ranges(map)?),
            "block" => self.block = Some(ranges(map)?),
            // it would restrict, and nobody here would know how
            _ => return Err(A::Error::custom("an address rule of another kind")),
        }
        Ok(())
    }
}

fn ranges<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Vec<IpRange>, A::Error> {
    let texts: Vec<Text<'de>> = map.next_value()?;
    texts.iter().map(|text| text.0.parse().map_err(A::Error::custom)).collect()
}
