//! The quota of an API key, as its tokens carry it in `quota` (docs/contract.md, "The token").

use serde::Serialize;
use serde::de::{Error, MapAccess};

use crate::error::InvalidToken;
use crate::json::Members;

/// How many requests a key may make within any window of so many seconds.
///
/// Verifying a token counts nothing: the issuer counts the tokens it issues, and an API that wants
/// to count its own calls finds here what the limit is.
///
/// ```
/// use tenmint_verifier::Quota;
/// let quota = Quota::new(100, 60).unwrap();
/// assert_eq!((quota.limit(), quota.window()), (100, 60));
/// assert_eq!(serde_json::to_string(&quota).unwrap(), r#"{"limit":100,"window":60}"#);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Quota {
    limit: u64,
    window: u64,
}

impl Quota {
    /// A quota of `limit` requests within `window` seconds; none where one of them is 0.
    ///
    /// ```
    /// use tenmint_verifier::Quota;
    /// assert!(Quota::new(0, 60).is_none() && Quota::new(100, 0).is_none());
    /// ```
    pub const fn new(limit: u64, window: u64) -> Option<Self> {
        if limit == 0 || window == 0 {
            return None;
        }
        Some(Self { limit, window })
    }

    /// Requests within a window at most; at least 1.
    ///
    /// ```
    /// # use tenmint_verifier::Quota;
    /// assert_eq!(Quota::new(100, 60).unwrap().limit(), 100);
    /// ```
    pub const fn limit(self) -> u64 {
        self.limit
    }

    /// The seconds of the window; at least 1.
    ///
    /// ```
    /// # use tenmint_verifier::Quota;
    /// assert_eq!(Quota::new(100, 60).unwrap().window(), 60);
    /// ```
    pub const fn window(self) -> u64 {
        self.window
    }
}

/// `quota` as it stands in a token.
#[derive(Default)]
pub(crate) struct RawQuota {
    limit: Option<u64>,
    window: Option<u64>,
}

impl RawQuota {
    pub(crate) fn require(self) -> Result<Quota, InvalidToken> {
        let quota =
            self.limit.zip(self.window).and_then(|(limit, window)| Quota::new(limit, window));
        quota.ok_or(InvalidToken::BadClaims)
    }
}

impl<'de> Members<'de> for RawQuota {
    fn member<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "limit" => self.limit = Some(map.next_value()?),
            "window" => self.window = Some(map.next_value()?),
            // it would restrict, and nobody here would know how
            _ => return Err(A::Error::custom("a quota of another kind")),
        }
        Ok(())
    }
}
