//! Form bodies, read strictly (RFC 6749, appendix B).
//!
//! A general form parser repairs what it can; here a parameter that two readers could read
//! differently is refused.

use std::borrow::Cow;

/// Parameters that a body may have.
const MAX_PARAMETERS: usize = 100;

/// The parameters of a body that are not empty, in their order.
pub(in crate::http) type Form = FormIn<'static>;

/// The same as they lie in the body, as far as nothing had to be decoded.
#[derive(Debug)]
pub(in crate::http) struct FormIn<'b> {
    parameters: Vec<(Cow<'b, str>, Cow<'b, str>)>,
}

/// What is wrong with a form, in words for the caller.
pub(in crate::http) type FormError = &'static str;

impl Form {
    /// Parses a body that is needed no more.
    pub(in crate::http) fn parse(body: &[u8]) -> Result<Self, FormError> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        let parameters = FormIn::parse_in(body)?.parameters.into_iter();
        let parameters = parameters.map(|(name, value)| (owned(name), owned(value)));
        Ok(Self { parameters: parameters.collect() })
    }
}

impl<'b> FormIn<'b> {
    /// Parses a body. An empty parameter is absent (RFC 6749, section 3.2).
    pub(super) fn parse_in(body: &'b [u8]) -> Result<Self, FormError> {
        let body = std::str::from_utf8(body).map_err(|_| "the body is not UTF-8")?;
        let mut parameters = Vec::with_capacity(8);
        for parameter in body.split('&').filter(|parameter| !parameter.is_empty()) {
            if parameters.len() == MAX_PARAMETERS {
                return Err("the body has more than 100 parameters");
            }
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if !value.is_empty() {
                parameters.push((name, value));
            }
        }
        Ok(Self { parameters })
    }

    /// Refuses a parameter that comes twice, `resource` excepted (RFC 8707, section 2).
    pub(in crate::http) fn refuse_repeated(&self) -> Result<(), FormError> {
        let repeated = self.parameters.iter().enumerate().any(|(at, (name, _))| {
            name != "resource"
                && self.parameters.iter().skip(at + 1).any(|(other, _)| other == name)
        });
        if repeated { Err("a parameter comes more than once") } else { Ok(()) }
    }

    /// All parameters, in their order.
    pub(in crate::http) fn into_parameters(self) -> Vec<(String, String)> {
        let owned = |(name, value): (Cow<'b, str>, Cow<'b, str>)| (name.into(), value.into());
        self.parameters.into_iter().map(owned).collect()
    }

    /// Takes a parameter out.
    pub(in crate::http) fn take(&mut self, name: &str) -> Option<String> {
        self.take_text(name).map(Cow::into_owned)
    }

    /// The same as it lies in the body.
    pub(super) fn take_text(&mut self, name: &str) -> Option<Cow<'b, str>> {
        let at = self.parameters.iter().position(|(known, _)| known == name)?;
        Some(self.parameters.remove(at).1)
    }

    /// Takes all parameters of a name out, in their order.
    pub(super) fn take_all(&mut self, name: &str) -> Vec<String> {
        if !self.parameters.iter().any(|(known, _)| known == name) {
            return Vec::new();
        }
        let all = std::mem::take(&mut self.parameters);
        let (taken, left): (Vec<_>, Vec<_>) = all.into_iter().partition(|(known, _)| known == name);
        self.parameters = left;
        taken.into_iter().map(|(_, value)| value.into_owned()).collect()
    }
}

/// Decodes `+` and `%XX` once, strictly.
pub(in crate::http) fn decode(text: &str) -> Result<Cow<'_, str>, FormError> {
    if !text.contains(['%', '+']) {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => break,
            [b'+', rest @ ..] => {
                decoded.push(b' ');
                rest
            }
            [b'%', high, low, rest @ ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                let (Some(high), Some(low)) = (digit(high), digit(low)) else {
                    return Err("a `%` is not followed by two hexadecimal digits");
                };
                decoded.push(u8::try_from(high << 4 | low).unwrap_or(b'?'));
                rest
            }
            [b'%', ..] => return Err("a `%` is not followed by two hexadecimal digits"),
            [byte, rest @ ..] => {
                decoded.push(*byte);
                rest
            }
        };
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| "a parameter is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plus_and_percent_are_decoded_once() {
        assert_eq!(decode("a+b%20c%2Bd%252B").unwrap(), "a b c+d%2B");
        for text in ["%", "%2", "%zz", "%+1", "%ff"] {
            assert!(decode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_empty_parameter_is_absent_and_a_repeated_one_is_refused() {
        let mut form = Form::parse(b"scope=&a=1&&code&scope=x").unwrap();
        assert!(form.refuse_repeated().is_ok());
        assert_eq!(form.take("scope").as_deref(), Some("x"));
        assert_eq!(form.take("code"), None);
        assert!(Form::parse(b"a=1&%61=2").unwrap().refuse_repeated().is_err());
        let mut form = Form::parse(b"resource=a&x=1&resource=b").unwrap();
        assert!(form.refuse_repeated().is_ok());
        assert_eq!(form.take_all("resource"), ["a", "b"]);
    }
}
