//! Users: persons. One person may be a member of several organizations, and no organization sees
//! more of it than its own membership.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::ask::asks;
use crate::model::id::{OrgId, UserId};
use crate::model::time::Timestamp;

/// A person as one organization knows it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Member {
    /// The person.
    pub id: UserId,
    /// The organization.
    #[serde(rename = "organization")]
    pub org: OrgId,
    /// The address that tells persons apart.
    pub email: EmailAddress,
    /// What this organization calls the person.
    pub name: String,
    /// When the person became a member.
    pub created_at: Timestamp,
    /// When the membership was suspended: the person's API keys here get no token.
    pub suspended_at: Option<Timestamp>,
    /// When the person was suspended in every organization, by an admin of the account.
    pub person_suspended_at: Option<Timestamp>,
}

/// A person as the installation knows it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Person {
    /// The person.
    pub id: UserId,
    /// The address that tells persons apart.
    pub email: EmailAddress,
    /// When the installation first knew the person.
    pub created_at: Timestamp,
    /// When the person was suspended: its API keys get no token in any organization.
    pub suspended_at: Option<Timestamp>,
}

asks! {
    /// A person as somebody asks for it: who is known already becomes a member.
    pub struct CreateUser {
        /// The address that tells persons apart.
        #[schemars(required, length(min = 3, max = 254))]
        pub email: String,
        /// What to call the person here; the address where it is left out.
        pub name: String,
        /// The role in the organization; `member` where it is left out.
        pub role: String,
    }

    /// What to change about a membership.
    pub struct EditUser {
        /// What to call the person here.
        pub name: String,
    }
}

/// An address of e-mail in lower case: one `@`, something on both sides, no blanks.
///
/// Whether mail arrives there is not known; the address tells persons apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, JsonSchema)]
pub struct EmailAddress(Box<str>);

/// Bytes of an address at most (RFC 5321, section 4.5.3.1.3).
const MAX_EMAIL_BYTES: usize = 254;

impl EmailAddress {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no address of e-mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidEmailAddress;

impl fmt::Display for InvalidEmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an address is written like `ada@example.com`, with at most {MAX_EMAIL_BYTES} bytes"
        )
    }
}

impl std::error::Error for InvalidEmailAddress {}

impl FromStr for EmailAddress {
    type Err = InvalidEmailAddress;

    fn from_str(text: &str) -> Result<Self, InvalidEmailAddress> {
        let (local, domain) = text.rsplit_once('@').ok_or(InvalidEmailAddress)?;
        let plain = |part: &str| {
            let refused = |c: char| c.is_whitespace() || c.is_control() || c == '@';
            !part.is_empty() && !part.contains(refused)
        };
        if plain(local) && plain(domain) && text.len() <= MAX_EMAIL_BYTES {
            Ok(Self(text.to_lowercase().into()))
        } else {
            Err(InvalidEmailAddress)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_whatever_its_case() {
        let email = |text: &str| text.parse::<EmailAddress>();
        assert_eq!(email("Ada@Example.com").unwrap(), email("ada@example.com").unwrap());
        for text in ["", "ada", "@example.com", "ada@", "a b@example.com", "a@b@c", "a@b\n"] {
            assert!(email(text).is_err(), "{text}");
        }
    }
}
