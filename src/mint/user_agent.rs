//! What is kept of a `User-Agent`: short, printable, and never an API key.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::mint::introspect::looks_like_a_token;
use crate::mint::{Caller, ClientCredential, Presented};
use crate::model::installation::ApiKeyPrefix;

/// Bytes of a user agent that are kept.
const MAX_USER_AGENT: usize = 200;
/// Bytes of a word that may be a credential.
const CREDENTIAL: RangeInclusive<usize> = 16..=512;

/// A caller of whom all may be kept: nothing that it calls itself is a credential. Only [`UserAgents`] makes
/// one with a name.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeptCaller<'c>(Caller<'c>);

impl<'c> KeptCaller<'c> {
    /// One that calls itself nothing.
    pub(super) fn nameless(address: Option<IpAddr>) -> Self {
        Self(Caller { address, user_agent: None })
    }

    /// Who it is.
    pub(super) fn caller(self) -> Caller<'c> {
        self.0
    }
}

/// What clients may call themselves where it is kept.
#[derive(Debug)]
pub struct UserAgents {
    /// What every text of an API key of this installation begins with.
    text_prefix: Box<str>,
}

impl UserAgents {
    /// Of an installation.
    pub fn new(prefix: &ApiKeyPrefix) -> Self {
        Self { text_prefix: format!("{}_", prefix.as_str()).into() }
    }

    /// A caller, without a name for itself that holds a credential by mistake: any API key of this installation, a
    /// token, what the request itself came with (`shows_own`), which may be an imported key of any form, or what
    /// `is_key` says is an API key.
    ///
    /// `is_key` is asked of words of which something would be kept, and may know those of a caller who is known
    /// alone: who could ask about a word of every organization could guess its keys.
    pub fn kept<'c>(
        &self,
        caller: Caller<'c>,
        shows_own: impl Fn(&str) -> bool,
        is_key: impl Fn(&str) -> bool,
    ) -> KeptCaller<'c> {
        let shows_one = |text: &str| {
            text.contains(&*self.text_prefix) || shows_own(text) || has_credential(text, &is_key)
        };
        KeptCaller(Caller {
            user_agent: caller.user_agent.filter(|text| !shows_one(text)),
            ..caller
        })
    }
}

/// Whether one of the words of which something would be kept is a credential.
fn has_credential(text: &str, is_key: impl Fn(&str) -> bool) -> bool {
    let is_credential =
        |word: &str| CREDENTIAL.contains(&word.len()) && (looks_like_a_token(word) || is_key(word));
    let mut place = 0;
    let mut kept = text.split([' ', '\t', ',', ';', '(', ')', '"']).take_while(|word| {
        let begins = place;
        place += word.len() + 1;
        begins < MAX_USER_AGENT
    });
    kept.any(|word| is_credential(word) || word.split(['/', '=', ':']).any(is_credential))
}

impl ClientCredential {
    /// Whether a text shows it.
    pub(super) fn is_shown_in(&self, text: &str) -> bool {
        self.texts.iter().any(|secret| secret.is_shown_in(text))
    }
}

impl Presented {
    /// Whether a text shows it.
    pub(super) fn is_shown_in(&self, text: &str) -> bool {
        match self {
            Self::ApiKey(client) => client.is_shown_in(text),
            Self::Token(token) => text.contains(token.as_str()),
        }
    }
}

/// Keeps what a caller calls itself in place of what is known. Where it is the same, nothing is allocated.
pub(super) fn keep_user_agent(known: &mut Option<Box<str>>, from: KeptCaller<'_>) {
    let sent = from.0.user_agent.filter(|text| !text.trim().is_empty());
    if !is_same(known.as_deref(), sent) {
        *known = sent.map(|text| kept(text).map(char::from).collect());
    }
}

/// What is kept of a user agent. Anything but printable ASCII becomes `?`: a log or a terminal that
/// shows it must not be steered by it, and PostgreSQL stores no NUL.
fn kept(text: &str) -> impl Iterator<Item = u8> {
    let printable = |byte| if matches!(byte, b' '..=b'~') { byte } else { b'?' };
    text.bytes().take(MAX_USER_AGENT).map(printable)
}

/// Whether `kept` would keep just this.
fn is_same(known: Option<&str>, sent: Option<&str>) -> bool {
    match (known, sent) {
        (Some(known), Some(sent)) => {
            let head = sent.as_bytes().get(..MAX_USER_AGENT).unwrap_or(sent.as_bytes());
            // nearly always the bytes are the same, which is far faster to see
            known.as_bytes() == head || known.bytes().eq(kept(sent))
        }
        (None, None) => true,
        _ => false,
    }
}
