//! What is kept of a `User-Agent`: short, printable, and never an API key.

use std::ops::RangeInclusive;

use crate::mint::Caller;
use crate::mint::introspect::looks_like_a_token;
use crate::model::installation::ApiKeyPrefix;
use crate::model::secret::PlainSecret;

/// Bytes of a user agent that are kept.
const MAX_USER_AGENT: usize = 200;
/// Bytes of a word that may be a credential.
const CREDENTIAL: RangeInclusive<usize> = 16..=512;

impl Caller<'_> {
    /// The same, without a name for itself that holds a credential by mistake: a token, or what `is_key` says
    /// is an API key. Only words of which something would be kept are looked at, and only those of a caller
    /// who is known: who could ask about a word of every organization could guess its keys.
    pub(super) fn without_credential(self, is_key: impl Fn(&str) -> bool) -> Self {
        let is_credential = |word: &str| {
            CREDENTIAL.contains(&word.len()) && (looks_like_a_token(word) || is_key(word))
        };
        let shows_one = |text: &str| {
            let mut place = 0;
            let mut kept = text.split([' ', '\t', ',', ';', '(', ')', '"']).take_while(|word| {
                let begins = place;
                place += word.len() + 1;
                begins < MAX_USER_AGENT
            });
            kept.any(|word| is_credential(word) || word.split(['/', '=', ':']).any(is_credential))
        };
        Caller { user_agent: self.user_agent.filter(|text| !shows_one(text)), ..self }
    }
}

/// What clients call themselves, as it is kept.
#[derive(Debug)]
pub(super) struct UserAgents {
    /// What every text of an API key of this installation begins with.
    text_prefix: Box<str>,
}

impl UserAgents {
    pub(super) fn new(prefix: &ApiKeyPrefix) -> Self {
        Self { text_prefix: format!("{}_", prefix.as_str()).into() }
    }

    /// Keeps what was sent in place of what is known. Where it is the same, nothing is allocated; what
    /// it came with must not be in it.
    pub(super) fn put(
        &self,
        known: &mut Option<Box<str>>,
        sent: Option<&str>,
        secrets: &[PlainSecret],
    ) {
        let sent = sent.filter(|text| !text.trim().is_empty());
        if !is_same(known.as_deref(), sent) {
            *known = sent
                .filter(|text| !self.shows_secret(text, secrets))
                .map(|text| kept(text).map(char::from).collect());
        }
    }

    /// Whether a header holds an API key by mistake: any of this installation, or the one it came
    /// with, which may be an imported one of any form.
    fn shows_secret(&self, text: &str, secrets: &[PlainSecret]) -> bool {
        text.contains(&*self.text_prefix) || secrets.iter().any(|secret| secret.is_shown_in(text))
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
