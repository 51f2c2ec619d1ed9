//! How many connections each source has open: none has more than half of the places, so that one that
//! opens and holds them leaves the other half to everybody else.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::http::client_ip::TrustedProxies;
use crate::model::ip_range::canonical;
use crate::model::source::Source;

/// Places that a source has in any case.
const AT_LEAST: u32 = 16;

/// The connections that are open, by source.
#[derive(Debug)]
pub(super) struct Sources {
    most: u32,
    /// What comes from these is of many.
    proxies: TrustedProxies,
    open: Mutex<HashMap<Source, u32>>,
}

impl Sources {
    /// For a listener of so many places.
    pub(super) fn of(max_connections: u32, proxies: TrustedProxies) -> Arc<Self> {
        let most = (max_connections / 2).max(AT_LEAST);
        Arc::new(Self { most, proxies, open: Mutex::default() })
    }

    /// A place for one more connection; `None` where its source has as many as it may.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<SourcePlace> {
        if self.proxies.trusts(canonical(peer)) {
            return Some(SourcePlace { counted: None });
        }
        let source = Source::of(Some(peer));
        let mut open = self.open.lock();
        let count = open.entry(source).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(SourcePlace { counted: Some((self.clone(), source)) })
    }
}

/// The place of one connection, given back when it is dropped.
#[derive(Debug)]
pub(super) struct SourcePlace {
    counted: Option<(Arc<Sources>, Source)>,
}

impl Drop for SourcePlace {
    fn drop(&mut self) {
        let Some((sources, source)) = &self.counted else { return };
        let mut open = sources.open.lock();
        if let Some(count) = open.get_mut(source) {
            *count -= 1;
            if *count == 0 {
                open.remove(source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(sources: &Arc<Sources>, peer: &str, tries: usize) -> Vec<SourcePlace> {
        (0..tries).filter_map(|_| sources.admit(peer.parse().unwrap())).collect()
    }

    #[test]
    fn a_source_has_half_of_the_places_and_gets_them_back() {
        let sources = Sources::of(100, TrustedProxies::default());
        let held = admitted(&sources, "192.0.2.1", 200);
        assert_eq!(held.len(), 50);
        assert_eq!(admitted(&sources, "::ffff:192.0.2.1", 1).len(), 0);
        assert_eq!(admitted(&sources, "2001:db8::1", 200).len(), 50);
        drop(held);
        assert_eq!(admitted(&sources, "192.0.2.1", 200).len(), 50);
        assert!(sources.open.lock().is_empty(), "who has gone takes no room");
    }

    #[test]
    fn a_trusted_proxy_has_all_of_them() {
        let proxies = TrustedProxies::parse(&["192.0.2.1".to_owned()], "forwarded").unwrap();
        let sources = Sources::of(100, proxies);
        assert_eq!(admitted(&sources, "::ffff:192.0.2.1", 200).len(), 200);
        assert_eq!(admitted(&sources, "192.0.2.2", 200).len(), 50);
    }
}
