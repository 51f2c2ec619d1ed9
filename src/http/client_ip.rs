//! The address of a caller: the socket's or, behind trusted proxies, the one they vouch for.
//!
//! One header is believed, the configured one, read from the right and only as far as trusted
//! proxies wrote it. Every other header, and all that a caller puts in front, is a claim of nobody.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};

use crate::error::InvalidField;
use crate::http::forwarded::{address_of_element, address_of_node, rsplit_unquoted};
use crate::model::ip_range::{IpRange, canonical, parse_ranges};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The other end of the connection. The listener puts it into the extensions of each request that goes to
/// the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Proxies whose word is taken for where a request came from, and the header they write. The
/// default trusts nobody.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies {
    ranges: Box<[IpRange]>,
    header: ForwardingHeader,
}

/// The one header that a node believes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum ForwardingHeader {
    /// `X-Forwarded-For`: addresses, separated by commas.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl TrustedProxies {
    /// Reads addresses and CIDRs of proxies, and the name of the header they write.
    ///
    /// # Errors
    /// One entry for each that is wrong, of the field `trusted_proxies` or `forwarding_header`.
    pub fn parse(proxies: &[String], header: &str) -> Result<Self, Vec<InvalidField>> {
        let mut wrong = Vec::new();
        let ranges = parse_ranges("trusted_proxies", proxies, &mut wrong);
        wrong.extend(ranges.iter().filter(|range| range.is_wildcard()).map(trusts_everybody));
        match ForwardingHeader::named(header) {
            Ok(header) if wrong.is_empty() => Ok(Self { ranges: ranges.into(), header }),
            Ok(_) => Err(wrong),
            Err(unknown) => {
                wrong.push(unknown);
                Err(wrong)
            }
        }
    }

    /// The address of the caller of a request, as of [`TrustedProxies::caller`]; `None` also of a
    /// request that no listener brought.
    pub fn caller_of(&self, head: &Parts) -> Option<IpAddr> {
        let Peer(peer) = head.extensions.get()?;
        self.caller(peer.ip(), &head.headers)
    }

    /// The address of a caller in its canonical form: the peer, unless it is a trusted proxy; then
    /// the right-most hop that is none, and the left-most where all are.
    ///
    /// `None` where trusted proxies vouch for no address: the hop is `unknown`, obfuscated, or
    /// cannot be read. Such a caller matches nothing, and address rules refuse it.
    pub fn caller(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        let peer = canonical(peer);
        if !self.trusts(peer) {
            return Some(peer);
        }
        // several lines are one list, in their order (RFC 9110, section 5.3)
        let lines = headers.get_all(self.header.name()).iter().rev().map(HeaderValue::as_bytes);
        match self.header {
            ForwardingHeader::XForwardedFor => {
                let hops = lines.flat_map(|line| line.rsplit(|byte| *byte == b','));
                self.last_untrusted(peer, hops.map(address_of_hop))
            }
            ForwardingHeader::Forwarded => {
                let hops = lines.flat_map(|line| rsplit_unquoted(line, b','));
                self.last_untrusted(peer, hops.map(address_of_element))
            }
        }
    }

    /// Walks from the peer to the left while each hop is a trusted proxy.
    fn last_untrusted(
        &self,
        peer: IpAddr,
        hops: impl Iterator<Item = Option<IpAddr>>,
    ) -> Option<IpAddr> {
        let mut caller = peer;
        for hop in hops {
            caller = canonical(hop?);
            if !self.trusts(caller) {
                break;
            }
        }
        Some(caller)
    }

    /// The one header that is believed.
    pub(super) fn header(&self) -> HeaderName {
        self.header.name()
    }

    /// Whether a canonical address is one of a proxy.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(address))
    }
}

impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ranges.is_empty() {
            return f.write_str("nobody");
        }
        write!(f, "{} from", self.header.name())?;
        self.ranges.iter().try_for_each(|range| write!(f, " {range}"))
    }
}

fn trusts_everybody(range: &IpRange) -> InvalidField {
    let message = format!(
        "`{range}` would let every caller name its own address: write the addresses of your proxies"
    );
    InvalidField { field: "trusted_proxies".into(), message }
}

impl ForwardingHeader {
    fn named(name: &str) -> Result<Self, InvalidField> {
        let is = |header: HeaderName| header.as_str().eq_ignore_ascii_case(name);
        if is(X_FORWARDED_FOR) {
            Ok(Self::XForwardedFor)
        } else if is(FORWARDED) {
            Ok(Self::Forwarded)
        } else {
            let message = format!("`{name}`: write `x-forwarded-for` or `forwarded`");
            Err(InvalidField { field: "forwarding_header".into(), message })
        }
    }

    fn name(self) -> HeaderName {
        match self {
            Self::XForwardedFor => X_FORWARDED_FOR,
            Self::Forwarded => FORWARDED,
        }
    }
}

/// The last hop of a line of `X-Forwarded-For`, for who knows by whom it was written.
pub(super) fn last_hop(line: &[u8]) -> Option<IpAddr> {
    address_of_hop(line.rsplit(|byte| *byte == b',').next()?).map(canonical)
}

/// One hop of `X-Forwarded-For`: an address, or one with a port as some proxies write it.
///
/// An empty hop is one that said nothing, not one that is not there: else what a caller sent would
/// move up into its place.
fn address_of_hop(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop.trim_ascii()).ok()?;
    hop.parse().ok().or_else(|| address_of_node(hop))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::Router;
    use axum::extract::{Request, State};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::http::listener::{self, Face, Limits};

    /// The peers that connect: a trusted proxy, and somebody else.
    const PROXY: &str = "127.0.0.1";
    const STRANGER: &str = "127.0.0.9";
    /// What a node behind one or two proxies trusts.
    const TRUSTED: [&str; 3] = [PROXY, "10.0.0.0/8", "2001:db8:aaaa::/48"];

    fn trusting(proxies: &[&str], header: &str) -> TrustedProxies {
        let proxies: Vec<String> = proxies.iter().map(|&proxy| proxy.to_owned()).collect();
        TrustedProxies::parse(&proxies, header).unwrap()
    }

    /// A real listener that answers with the address it takes the caller to have.
    struct AddressEcho {
        address: SocketAddr,
        serving: JoinHandle<()>,
    }

    impl AddressEcho {
        async fn by(proxies: TrustedProxies, address: &str) -> Self {
            let router = Router::new().fallback(tell).with_state(Arc::new(proxies));
            let listener = TcpListener::bind(address).await.unwrap();
            let address = listener.local_addr().unwrap();
            let never = std::future::pending();
            let face = Face::plain(router, Limits::default());
            let serving = tokio::spawn(listener::serve(listener, face, never));
            Self { address, serving }
        }

        /// The answer to a request with these header lines, from this address.
        async fn to(&self, peer: &str, lines: &[&str]) -> String {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::new(peer.parse().unwrap(), 0)).unwrap();
            let server = SocketAddr::new(PROXY.parse().unwrap(), self.address.port());
            let mut stream = socket.connect(server).await.unwrap();
            let lines: String = lines.iter().map(|line| [line, "\r\n"].concat()).collect();
            let request = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{lines:?}: {answer}");
            answer.rsplit("\r\n").next().unwrap().to_owned()
        }
    }

    impl Drop for AddressEcho {
        fn drop(&mut self) {
            self.serving.abort();
        }
    }

    async fn tell(State(proxies): State<Arc<TrustedProxies>>, request: Request) -> String {
        let (head, _) = request.into_parts();
        proxies.caller_of(&head).map_or("unknown".to_owned(), |address| address.to_string())
    }

    #[tokio::test]
    async fn without_proxies_every_header_is_ignored() {
        let told = AddressEcho::by(TrustedProxies::default(), "127.0.0.1:0").await;
        for lines in [
            &[][..],
            &["X-Forwarded-For: 203.0.113.7"],
            &["X-Forwarded-For: 127.0.0.1", "X-Forwarded-For: 203.0.113.7"],
            &["X-Forwarded-For: nonsense"],
            &["X_Forwarded_For: 203.0.113.7"],
            &["Forwarded: for=203.0.113.7"],
            &["Forwarded: for=\"", "X-Forwarded-For: ,"],
            &["X-Real-IP: 203.0.113.7", "True-Client-IP: 203.0.113.7", "CF-Connecting-IP: 1.1.1.1"],
            &["Via: 1.1 203.0.113.7", "Client-IP: 203.0.113.7", "X-Client-IP: 203.0.113.7"],
        ] {
            assert_eq!(told.to(STRANGER, lines).await, STRANGER, "{lines:?}");
        }
    }

    /// Asks a node that trusts two proxies, from one of them, with lines of its header.
    async fn check(header: &str, cases: &[(&[&str], &str)]) {
        let told = AddressEcho::by(trusting(&TRUSTED, header), "127.0.0.1:0").await;
        for (values, caller) in cases {
            let lines: Vec<String> =
                values.iter().map(|value| [header, ":", value].concat()).collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            assert_eq!(told.to(PROXY, &lines).await, *caller, "{lines:?}");
            assert_eq!(told.to(STRANGER, &lines).await, STRANGER, "{lines:?}");
        }
    }

    #[tokio::test]
    async fn only_the_configured_header_counts() {
        let (mine, other) = ("X-Forwarded-For: 203.0.113.7", "Forwarded: for=198.51.100.1");
        let told = AddressEcho::by(trusting(&TRUSTED, "X-Forwarded-For"), "127.0.0.1:0").await;
        for (lines, caller) in [
            (&[][..], PROXY),
            (&[mine], "203.0.113.7"),
            (&[mine, other], "203.0.113.7"),
            (&[mine, "X_Forwarded_For: 198.51.100.1"], "203.0.113.7"),
            (&["X-Real-IP: 198.51.100.1", mine, "X-Forwarded: 1.1.1.1"], "203.0.113.7"),
            (&[other, "X_Forwarded_For: 198.51.100.1", "X-Real-IP: 198.51.100.1"], PROXY),
        ] {
            assert_eq!(told.to(PROXY, lines).await, caller, "{lines:?}");
        }
        let told = AddressEcho::by(trusting(&TRUSTED, "forwarded"), "127.0.0.1:0").await;
        assert_eq!(told.to(PROXY, &[mine, other]).await, "198.51.100.1");
        assert_eq!(told.to(PROXY, &[mine]).await, PROXY);
    }

    #[tokio::test]
    async fn x_forwarded_for_of_one_proxy_ends_in_the_caller() {
        let cases: [(&[&str], &str); 20] = [
            (&["203.0.113.7"], "203.0.113.7"),
            (&[" \t 203.0.113.7 \t"], "203.0.113.7"),
            (&["2001:DB8::7"], "2001:db8::7"),
            (&["[2001:db8::7]"], "2001:db8::7"),
            (&["[2001:db8::7]:4711"], "2001:db8::7"),
            (&["203.0.113.7:4711"], "203.0.113.7"),
            (&["::ffff:203.0.113.7"], "203.0.113.7"),
            (&["[::ffff:203.0.113.7]:1"], "203.0.113.7"),
            (&["64:ff9b::203.0.113.7"], "203.0.113.7"),
            // and a caller who makes things up
            (&["198.51.100.1, 203.0.113.7"], "203.0.113.7"),
            (&["10.0.0.1,203.0.113.7"], "203.0.113.7"),
            (&["127.0.0.1, 10.9.9.9, 203.0.113.7"], "203.0.113.7"),
            (&["198.51.100.1", "203.0.113.7"], "203.0.113.7"),
            (&["198.51.100.1, 10.0.0.1", "203.0.113.7"], "203.0.113.7"),
            (&["198.51.100.1", "10.0.0.1", "203.0.113.7"], "203.0.113.7"),
            (&["nonsense, 203.0.113.7"], "203.0.113.7"),
            (&[", , 203.0.113.7"], "203.0.113.7"),
            (&["", "203.0.113.7"], "203.0.113.7"),
            (&["\u{e9}\u{1f511}, 203.0.113.7"], "203.0.113.7"),
            (&["\"198.51.100.1, 203.0.113.7"], "203.0.113.7"),
        ];
        check("X-Forwarded-For", &cases).await;
    }

    #[tokio::test]
    async fn x_forwarded_for_of_two_proxies_is_read_past_the_outer_one() {
        let cases: [(&[&str], &str); 8] = [
            (&["203.0.113.7, 10.0.0.2"], "203.0.113.7"),
            (&["203.0.113.7", "10.0.0.2"], "203.0.113.7"),
            (&["198.51.100.1, 203.0.113.7, 10.0.0.2:80"], "203.0.113.7"),
            (&["10.0.0.3, 203.0.113.7, ::ffff:10.0.0.2"], "203.0.113.7"),
            (&["203.0.113.7, [2001:db8:aaaa::2]:80"], "203.0.113.7"),
            // one that is not trusted may say what it likes
            (&["203.0.113.7, 192.0.2.2"], "192.0.2.2"),
            (&["203.0.113.7, 192.0.2.2, 10.0.0.2"], "192.0.2.2"),
            // all are trusted: the one that began
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ];
        check("X-Forwarded-For", &cases).await;
    }

    #[tokio::test]
    async fn a_hop_of_x_forwarded_for_that_is_no_address_is_never_passed_over() {
        let values = [
            ["unknown", "", "198.51.100.1,", "198.51.100.1, nonsense"],
            ["198.51.100.1, nonsense, 10.0.0.2", "198.51.100.1,, 10.0.0.2", "unix:", "_hidden"],
            ["203.0.113.07", "203.0.113", "0xcb.0.113.7", "3405803783"],
            ["203.0.113.7/32", "203.0.113.7:", "203.0.113.7:port", "203.0.113.7:+80"],
            ["fe80::1%eth0", "[fe80::1%251]:80", "[203.0.113.7]", "[2001:db8::7"],
            ["[2001:db8::7]80", "[[2001:db8::7]]", "2001:db8::7]", "::ffff:203.0.113.7:80"],
            ["198.51.100.1 203.0.113.7", "198.51.100.1; 203.0.113.7", "\"203.0.113.7\"", "*"],
            ["for=203.0.113.7", "caller.example.com", "0.0.0.256", "\u{661}.1.1.1"],
        ];
        for value in values.as_flattened() {
            check("X-Forwarded-For", &[(&[value], "unknown")]).await;
            check("X-Forwarded-For", &[(&["198.51.100.1", value], "unknown")]).await;
        }
    }

    #[tokio::test]
    async fn forwarded_is_read_as_rfc_7239_says() {
        let cases: [(&[&str], &str); 11] = [
            (&["for=203.0.113.7"], "203.0.113.7"),
            (&["For=203.0.113.7;proto=http;by=10.0.0.1"], "203.0.113.7"),
            (&["by=\"[2001:db8::1]:80\";FOR=\"203.0.113.7:4711\"; proto=https"], "203.0.113.7"),
            (&["for=\"203.0.113.7:_p1\""], "203.0.113.7"),
            (&["for=\"[2001:DB8::7]\""], "2001:db8::7"),
            (&["for=\"[2001:db8::7]:4711\";host=\"a,b;for=1.1.1.1\""], "2001:db8::7"),
            (&["for=\"\\[2001:db8::7\\]\""], "2001:db8::7"),
            (&["host=\"a\\\", for=10.0.0.1\";for=203.0.113.7"], "203.0.113.7"),
            (&["host=\"a\\\\\";for=203.0.113.7"], "203.0.113.7"),
            (&["for=\"[::ffff:203.0.113.7]\""], "203.0.113.7"),
            (&[";;for=203.0.113.7;"], "203.0.113.7"),
        ];
        check("Forwarded", &cases).await;
    }

    #[tokio::test]
    async fn forwarded_is_read_from_the_right_past_trusted_proxies() {
        let cases: [(&[&str], &str); 13] = [
            (&["for=198.51.100.1, for=203.0.113.7"], "203.0.113.7"),
            (&["for=198.51.100.1", "for=203.0.113.7"], "203.0.113.7"),
            (&["for=10.0.0.1;x=\", for=203.0.113.7"], "203.0.113.7"),
            (&["for=10.0.0.1;x=\"\\, for=203.0.113.7"], "203.0.113.7"),
            (&["for=10.0.0.1;x=\", for=\"[2001:db8::7]\""], "2001:db8::7"),
            (&["for=10.0.0.1, x=\"", "for=203.0.113.7"], "203.0.113.7"),
            (&["nonsense, for=203.0.113.7"], "203.0.113.7"),
            (&["\u{e9}, for=203.0.113.7"], "203.0.113.7"),
            // two proxies
            (&["for=203.0.113.7, for=10.0.0.2"], "203.0.113.7"),
            (&["for=198.51.100.1, for=203.0.113.7", "for=\"10.0.0.2:80\""], "203.0.113.7"),
            (&["for=203.0.113.7, for=\"[2001:db8:aaaa::2]\";proto=https"], "203.0.113.7"),
            (&["for=203.0.113.7, for=192.0.2.2"], "192.0.2.2"),
            (&["for=10.0.0.3, for=10.0.0.2"], "10.0.0.3"),
        ];
        check("Forwarded", &cases).await;
    }

    #[tokio::test]
    async fn an_element_of_forwarded_that_is_malformed_anywhere_says_nothing() {
        let values = [
            ["for=unknown", "for=_hidden", "for=\"_hidden:80\", for=10.0.0.2", "proto=https"],
            ["for=198.51.100.1, for=unknown, for=10.0.0.2", "for=198.51.100.1,", "", ";"],
            ["203.0.113.7", "for=", "for=\"\"", "for =203.0.113.7"],
            ["for= 203.0.113.7", "for=203.0.113.7;for=198.51.100.1", "for=\"203.0.113.7\"x", "=1"],
            [
                "for=203.0.113.7;nonsense",
                "for=203.0.113.7 proto=https",
                "for=203.0.113.7:4711",
                "x",
            ],
            ["for=[2001:db8::7]", "for=\"2001:db8::7\"", "for=\"[2001:db8::7\"", "for=2001:db8::7"],
            ["for=\"203.0.113.7:123456\"", "for=\"203.0.113.7", "for='203.0.113.7'", "for=\"\\"],
            ["for=\"[fe80::1%25eth0]\"", "f\u{f6}r=203.0.113.7", "for=\"[203.0.113.7]\"", "\""],
        ];
        for value in values.as_flattened() {
            check("Forwarded", &[(&[value], "unknown")]).await;
            check("Forwarded", &[(&["for=198.51.100.1", value], "unknown")]).await;
        }
    }

    #[tokio::test]
    async fn a_socket_of_both_families_tells_ipv4_as_ipv4() {
        let told = AddressEcho::by(TrustedProxies::default(), "[::]:0").await;
        assert_eq!(told.to(STRANGER, &[]).await, STRANGER);
        let told = AddressEcho::by(trusting(&[PROXY], "x-forwarded-for"), "[::]:0").await;
        assert_eq!(told.to(PROXY, &["X-Forwarded-For: 203.0.113.7"]).await, "203.0.113.7");
    }

    #[test]
    fn proxies_that_cannot_be_meant_are_refused_with_the_fix() {
        let faults = |proxies: &[&str], header: &str| -> String {
            let proxies: Vec<String> = proxies.iter().map(|&proxy| proxy.to_owned()).collect();
            let wrong = TrustedProxies::parse(&proxies, header).unwrap_err();
            wrong
                .iter()
                .map(|w| format!("{}: {}", w.field, w.message))
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert_eq!(
            faults(&["10.0.0.1/8", "::/0"], "x-real-ip"),
            "trusted_proxies: `10.0.0.1/8`: bits are set behind the prefix: write `10.0.0.0/8`\n\
             trusted_proxies: `::/0` would let every caller name its own address: write the \
             addresses of your proxies\n\
             forwarding_header: `x-real-ip`: write `x-forwarded-for` or `forwarded`"
        );
        assert!(faults(&["::ffff:0:0/96"], "forwarded").contains("`0.0.0.0/0` would let"));
    }

    /// What a header can hold.
    fn claim() -> impl Strategy<Value = Vec<u8>> {
        let telling = prop::sample::select(&b"\", \\;=for10.[]:_"[..]);
        let byte = prop_oneof![3 => telling, 1 => 0x20..=0x7e_u8, 1 => 0x80..=0xff_u8];
        vec(byte, 0..40)
    }

    fn headers(name: &'static str, lines: &[Vec<u8>]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_bytes(line).unwrap());
        }
        headers
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn what_a_caller_claims_never_changes_what_proxies_say(
            claims in vec(claim(), 1..3),
            joined in any::<bool>(),
            (header, written, caller) in prop::sample::select(&[
                ("x-forwarded-for", "203.0.113.7", "203.0.113.7"),
                ("x-forwarded-for", "[2001:db8::7]:80, 10.0.0.2", "2001:db8::7"),
                ("forwarded", "for=203.0.113.7", "203.0.113.7"),
                (
                    "forwarded",
                    "for=\"[2001:db8::7]:80\";host=\"a\\\",\", for=10.0.0.2",
                    "2001:db8::7",
                ),
            ][..]),
        ) {
            let proxies = trusting(&TRUSTED, header);
            let peer: IpAddr = PROXY.parse().unwrap();
            let mut lines = claims;
            match lines.last_mut() {
                Some(last) if joined => last.extend_from_slice(format!(", {written}").as_bytes()),
                _ => lines.push(written.into()),
            }
            let found = proxies.caller(peer, &headers(header, &lines));
            prop_assert_eq!(found, Some(caller.parse().unwrap()));
        }

        #[test]
        fn a_stranger_is_who_the_socket_says(claims in vec(claim(), 0..3), last in any::<u8>()) {
            let peer = IpAddr::from([192, 0, 2, last]);
            for header in ["x-forwarded-for", "forwarded"] {
                let found = trusting(&TRUSTED, header).caller(peer, &headers(header, &claims));
                prop_assert_eq!(found, Some(peer));
            }
        }
    }
}
