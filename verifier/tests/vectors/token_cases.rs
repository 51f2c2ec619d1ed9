//! One token for each way to be good or bad, as `vectors/tokens.json` has them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::RSA_PKCS1_SHA256;
use serde_json::{Map, Value, json};

use crate::common::{AUDIENCE, Forge, ISSUER, NOW, claims, encode, header, join, with};

/// A token and what becomes of it.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) token: String,
    pub(crate) expect: &'static str,
    /// Whether a library for JWTs in general may let it pass.
    pub(crate) strict: bool,
}

/// All cases, in the order of the file.
pub(crate) struct Cases<'f> {
    forge: &'f Forge,
    rsa: Option<&'f KeyPair>,
    list: Vec<Case>,
}

/// The good claims with this one more, as text: what is no JSON value can be tried too.
fn with_text(name: &str, value: &str) -> String {
    with(claims(), name, None).to_string().replacen('{', &format!(r#"{{"{name}":{value},"#), 1)
}

impl<'f> Cases<'f> {
    pub(crate) fn of(forge: &'f Forge, rsa: Option<&'f KeyPair>) -> Vec<Case> {
        let mut cases = Self { forge, rsa, list: Vec::new() };
        cases.good();
        cases.out_of_time();
        cases.for_others();
        cases.types();
        cases.missing();
        cases.algorithms();
        cases.signatures();
        cases.keys();
        cases.no_tokens();
        let lenient = cases.list.len();
        cases.ahead_of_time();
        cases.mistyped();
        cases.restrictions();
        cases.headers();
        cases.doubles();
        cases.spellings();
        cases.sizes();
        for case in &mut cases.list[lenient..] {
            case.strict = case.expect != "valid";
        }
        cases.list
    }

    fn add(&mut self, expect: &'static str, name: impl Into<String>, token: impl Into<String>) {
        self.list.push(Case { name: name.into(), token: token.into(), expect, strict: false });
    }

    /// A token with these claims and a good header.
    fn claims(&mut self, expect: &'static str, name: impl Into<String>, claims: impl ToString) {
        self.add(expect, name, self.forge.sign(header(), claims));
    }

    fn claim(&mut self, expect: &'static str, name: &str, claim: &str, value: Value) {
        self.claims(expect, name, with(claims(), claim, value));
    }

    /// A token with one member of the header set, or taken away by `None`.
    fn header(&mut self, expect: &'static str, name: &str, member: &str, value: Option<Value>) {
        let header = with(header(), member, value);
        self.add(expect, name, self.forge.sign(header, claims()));
    }

    fn sign_rsa(&self, header: &Value, claims: &Value) -> String {
        let signed = join(&header.to_string(), &claims.to_string());
        let mut signature = vec![0; 256];
        if let Some(key) = self.rsa {
            let random = SystemRandom::new();
            key.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).unwrap();
        }
        format!("{signed}.{}", encode(signature))
    }

    fn good(&mut self) {
        let [ed, rs] = [("EdDSA", "ed"), ("RS256", "rs")]
            .map(|(alg, kid)| json!({"typ": "at+jwt", "alg": alg, "kid": kid}));
        self.claims("valid", "signed by ES256", claims());
        self.add("valid", "signed by EdDSA", self.forge.sign_ed25519(ed, claims()));
        self.add("valid", "signed by RS256", self.sign_rsa(&rs, &claims()));
        let net = json!({"allow": ["10.0.0.0/8", "2001:db8::/32"], "block": ["10.1.0.0/16"]});
        let more = with(claims(), "space", json!("spc_0000000000000000"));
        let more = with(with(more, "net", net), "quota", json!({"limit": 100, "window": 60}));
        self.claims("valid", "with `space`, `net` and `quota`", more);
        let audiences = json!(["https://other.example.com", AUDIENCE]);
        self.claim("valid", "for two APIs, this one among them", "aud", audiences);
        self.claim("valid", "for a list of this API alone", "aud", json!([AUDIENCE]));
        self.claim("valid", "with a claim of no meaning", "x", json!({"y": [null]}));
        self.claim("valid", "with named scopes", "scope", json!("chat models.list"));
        self.claim("valid", "with `nbf` at this moment", "nbf", json!(NOW));
        self.claim("valid", "that expires in a second", "exp", json!(NOW + 1));
        self.header("valid", "with a header member of no meaning", "x", Some(json!(1)));
        for typ in ["AT+JWT", "application/at+jwt"] {
            let name = format!("`typ` is `{typ}`, the same media type");
            self.header("valid", &name, "typ", Some(json!(typ)));
        }
        let spaced = serde_json::to_string_pretty(&claims()).unwrap();
        self.claims("valid", "with white space in its JSON", spaced);
        let escaped = claims().to_string().replace(r#""org""#, r#""\u006frg""#);
        self.claims("valid", "with an escape in the name of a claim", escaped);
    }

    fn out_of_time(&mut self) {
        self.claim("expired", "that expired long ago", "exp", json!(NOW - 600));
        self.claim("expired", "that expires at this moment", "exp", json!(NOW));
        self.claim("expired", "that expired in 1970", "exp", json!(0));
        self.claim("not_yet_valid", "with `nbf` in ten minutes", "nbf", json!(NOW + 600));
        self.claim("not_yet_valid", "with `nbf` in a second", "nbf", json!(NOW + 1));
    }

    fn ahead_of_time(&mut self) {
        self.claim("not_yet_valid", "issued in ten minutes", "iat", json!(NOW + 600));
        self.claim("not_yet_valid", "issued in a second", "iat", json!(NOW + 1));
    }

    fn for_others(&mut self) {
        for iss in [
            "https://other.example.com",
            "https://auth.example.com/",
            "http://auth.example.com",
            "https://AUTH.example.com",
            "https://auth.example.com:443",
            "auth.example.com",
            "https://auth.example.com.evil.example",
            "https://auth.example.co",
        ] {
            self.claim("wrong_issuer", &format!("of the issuer `{iss}`"), "iss", json!(iss));
        }
        for aud in [
            json!("https://other.example.com"),
            json!("https://api.example.com/"),
            json!("https://API.example.com"),
            json!("https://api.example.co"),
            json!("https://api.example.com.evil.example"),
            json!(ISSUER),
            json!("*"),
            json!("https://api.example.com https://other.example.com"),
            json!([]),
            json!(["https://other.example.com", "https://api.example.com/v1"]),
        ] {
            self.claim("wrong_audience", &format!("for the audience `{aud}`"), "aud", aud);
        }
    }

    fn missing(&mut self) {
        for name in claims().as_object().unwrap().keys() {
            let without = with(claims(), name, None);
            self.claims("bad_claims", format!("without `{name}`"), without);
        }
    }

    fn mistyped(&mut self) {
        for name in ["iss", "sub", "client_id", "scope", "org", "jti"] {
            for value in [json!(null), json!(1), json!(""), json!([claims()[name]])] {
                self.claim("bad_claims", &format!("`{name}` is `{value}`"), name, value);
            }
        }
        for name in ["iat", "exp", "rev"] {
            let good = claims()[name].to_string();
            for value in [format!("\"{good}\""), format!("{good}.5"), format!("-{good}")] {
                let claims = with_text(name, &value);
                self.claims("bad_claims", format!("`{name}` is `{value}`"), claims);
            }
        }
        for exp in ["1.8000006e9", "1800000600.0", "18446744073709551616", "null", "true"] {
            self.claims("bad_claims", format!("`exp` is `{exp}`"), with_text("exp", exp));
        }
        self.claim("bad_claims", "`nbf` is text", "nbf", json!("0"));
        for aud in [json!(1), json!(null), json!({"aud": AUDIENCE}), json!([AUDIENCE, 1])] {
            self.claim("bad_claims", &format!("`aud` is `{aud}`"), "aud", aud);
        }
        for scope in [
            "read",
            "chat  read:*",
            " chat",
            "READ:a",
            "read:/a",
            "read:a/../b",
            "read:a/%2f",
            "read:a*",
            "read:a/**",
            "chat,read:a",
            "chat\nread:a",
        ] {
            let name = format!("`scope` is {scope:?}, which is not canonical");
            self.claim("bad_claims", &name, "scope", json!(scope));
        }
        self.claim("bad_claims", "with 65 scopes", "scope", json!(["chat"; 65].join(" ")));
    }

    fn restrictions(&mut self) {
        let mut bad = |name: &str, value: &str| {
            let claims = with_text(name, value);
            self.claims("bad_claims", format!("`{name}` is `{value}`"), claims);
        };
        for value in ["null", r#""""#, "1", r#"["spc_0000000000000000"]"#] {
            bad("space", value);
        }
        for value in [
            "null",
            "{}",
            "[]",
            r#""10.0.0.0/8""#,
            r#"{"allow":[]}"#,
            r#"{"allow":"10.0.0.0/8"}"#,
            r#"{"allow":["10.0.0.0/8"],"block":[]}"#,
            r#"{"allow":["10.0.0.1/8"]}"#,
            r#"{"allow":["10.0.0.0/33"]}"#,
            r#"{"allow":["010.0.0.0/8"]}"#,
            r#"{"allow":["10.0.0.0/8",null]}"#,
            r#"{"allow":["10.0.0.0/8"],"deny":["10.1.0.0/16"]}"#,
            r#"{"allow":["10.0.0.0/8"],"allow":["0.0.0.0/0"]}"#,
        ] {
            bad("net", value);
        }
        for value in [
            "null",
            "{}",
            "100",
            r#"{"limit":100}"#,
            r#"{"window":60}"#,
            r#"{"limit":0,"window":60}"#,
            r#"{"limit":100,"window":0}"#,
            r#"{"limit":-1,"window":60}"#,
            r#"{"limit":100.0,"window":60}"#,
            r#"{"limit":"100","window":60}"#,
            r#"{"limit":100,"window":60,"burst":1}"#,
            r#"{"limit":1,"limit":1000,"window":60}"#,
        ] {
            bad("quota", value);
        }
    }

    fn types(&mut self) {
        self.header("wrong_type", "without `typ`", "typ", None);
        for typ in [
            "JWT",
            "tm-revocations+jwt",
            "id_token+jwt",
            "at+jwt ",
            "bat+jwt",
            "at+jwt2",
            "",
            "text/at+jwt",
        ] {
            let name = format!("`typ` is `{typ}`");
            self.header("wrong_type", &name, "typ", Some(json!(typ)));
        }
        self.header("malformed", "`typ` is no text", "typ", Some(json!(["at+jwt"])));
    }

    fn algorithms(&mut self) {
        let spelled = |alg: &str| with(header(), "alg", json!(alg)).to_string();
        for alg in ["none", "None", "NONE", ""] {
            let token = join(&spelled(alg), &claims().to_string()) + ".";
            self.add("wrong_algorithm", format!("unsigned, `alg` is `{alg}`"), token);
        }
        for (what, secret) in self.public_secrets() {
            let signed = join(&spelled("HS256"), &claims().to_string());
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), signed.as_bytes());
            let token = format!("{signed}.{}", encode(tag));
            self.add("wrong_algorithm", format!("signed by HS256 with {what}"), token);
        }
        self.header("wrong_algorithm", "without `alg`", "alg", None);
        for alg in ["es256", "ES384", "ES256K", "RS256", "PS256", "EdDSA", "Ed25519"] {
            let name = format!("signed by ES256, `alg` is `{alg}`");
            self.header("wrong_algorithm", &name, "alg", Some(json!(alg)));
        }
        let name = "signed by ES256, `kid` names the key of EdDSA";
        self.header("wrong_algorithm", name, "kid", Some(json!("ed")));
        let named = json!({"typ": "at+jwt", "alg": "Ed25519", "kid": "ed"});
        let token = self.forge.sign_ed25519(named, claims());
        self.add("wrong_algorithm", "signed by EdDSA, `alg` is `Ed25519`", token);
        let probabilistic = json!({"typ": "at+jwt", "alg": "PS256", "kid": "rs"});
        let token = self.sign_rsa(&probabilistic, &claims());
        self.add("wrong_algorithm", "signed by RS256, `alg` is `PS256`", token);
    }

    /// What an attacker has of the ES256 key, who signs by HMAC with it.
    fn public_secrets(&self) -> [(&'static str, Vec<u8>); 4] {
        let spki_head = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
        let spki = STANDARD.encode([spki_head.as_slice(), self.forge.point()].concat());
        let (first, second) = spki.split_at(64);
        let pem =
            format!("-----BEGIN PUBLIC KEY-----\n{first}\n{second}\n-----END PUBLIC KEY-----\n");
        let jwk = self.forge.es256_jwk().to_string();
        [
            ("the public key in PEM", pem.into_bytes()),
            ("the public key as a JWK", jwk.into_bytes()),
            ("the point of the public key", self.forge.point().to_vec()),
            ("an empty secret", Vec::new()),
        ]
    }

    fn signatures(&mut self) {
        let good = self.forge.sign(header(), claims());
        let signed = good.rsplit_once('.').unwrap().0.to_owned();
        let stranger = Forge::new().sign(header(), claims());
        self.add("bad_signature", "signed by a stranger under the same `kid`", stranger);
        let wide = with(claims(), "scope", json!("*:*")).to_string();
        let signature = good.rsplit_once('.').unwrap().1;
        let spliced = format!("{}.{signature}", join(&header().to_string(), &wide));
        self.add("bad_signature", "with the signature of other claims", spliced);
        let other = json!({"typ": "at+jwt", "alg": "ES256", "kid": "es", "x": 1});
        let spliced = format!("{}.{signature}", join(&other.to_string(), &claims().to_string()));
        self.add("bad_signature", "with the signature of another header", spliced);
        let [zero, short, long] = [64, 63, 65].map(|length| encode(vec![0; length]));
        for (what, signature) in [("none", String::new()), ("64 zeros", zero)] {
            self.add(
                "bad_signature",
                format!("its signature is {what}"),
                format!("{signed}.{signature}"),
            );
        }
        for (what, signature) in [("too short", short), ("too long", long)] {
            self.add(
                "bad_signature",
                format!("its signature is {what}"),
                format!("{signed}.{signature}"),
            );
        }
        let der = self.forge.sign_der(header(), claims());
        self.add("bad_signature", "its ES256 signature is in the form of X.509", der);
        let [ed, rs] = [("EdDSA", "ed"), ("RS256", "rs")]
            .map(|(alg, kid)| json!({"typ": "at+jwt", "alg": alg, "kid": kid}));
        let token = self.forge.sign(ed, claims());
        self.add("bad_signature", "signed by ES256, called EdDSA throughout", token);
        let token = self.forge.sign(rs, claims());
        self.add("bad_signature", "signed by ES256, called RS256 throughout", token);
    }

    fn keys(&mut self) {
        for kid in ["ES", "es ", "other", "../es"] {
            let name = format!("`kid` is `{kid}`");
            self.header("unknown_key", &name, "kid", Some(json!(kid)));
        }
        self.header("malformed", "`kid` is a number", "kid", Some(json!(1)));
        let stranger = Forge::new();
        let brought = with(header(), "jwk", stranger.es256_jwk());
        let token = stranger.sign(brought, claims());
        self.add("header_refused", "signed by the key that its header brings along", token);
        for crit in [json!(["x"]), json!(["exp"])] {
            let name = format!("with `crit` of `{crit}`");
            self.header("header_refused", &name, "crit", Some(crit));
        }
    }

    fn headers(&mut self) {
        self.header("unknown_key", "without `kid`", "kid", None);
        self.header("unknown_key", "`kid` is ``", "kid", Some(json!("")));
        let brought = with(self.forge.es256_jwk(), "kid", None);
        self.header("header_refused", "with `jwk`", "jwk", Some(brought));
        for (name, value) in [
            ("jku", json!("https://auth.example.com/.well-known/jwks.json")),
            ("x5u", json!("https://auth.example.com/certificate")),
            ("x5c", json!(["AAAA"])),
            ("x5t", json!("AAAA")),
            ("crit", json!([])),
            ("b64", json!(false)),
            ("cty", json!("JWT")),
            ("zip", json!("DEF")),
            ("enc", json!("A256GCM")),
        ] {
            let said = format!("with `{name}` of `{value}`");
            self.header("header_refused", &said, name, Some(value));
        }
    }

    fn doubles(&mut self) {
        for extra in
            [r#","alg":"ES256"}"#, r#","kid":"es"}"#, r#","x":1,"x":1}"#, r#","\u0061lg":""}"#]
        {
            let twice = header().to_string().replace('}', extra);
            let token = self.forge.sign(&twice, claims());
            self.add("malformed", format!("its header is `{twice}`"), token);
        }
        for name in ["iss", "aud", "scope", "org", "exp", "rev"] {
            let same = claims()[name].to_string();
            let twice = claims().to_string().replace('}', &format!(r#","{name}":{same}}}"#));
            self.claims("bad_claims", format!("`{name}` comes twice"), twice);
        }
        for (what, extra) in [
            ("`scope` comes twice, narrow first", r#","scope":"*:*"}"#),
            ("`org` comes twice, once by an escape", r#","\u006frg":"org_1"}"#),
            ("a claim of no meaning comes twice", r#","x":1,"x":1}"#),
        ] {
            self.claims("bad_claims", what, claims().to_string().replace('}', extra));
        }
    }

    /// Texts that are no JWT.
    fn no_tokens(&mut self) {
        let good = self.forge.sign(header(), claims());
        let parts: Vec<&str> = good.split('.').collect();
        for (what, token) in [
            ("with a dot behind it", format!("{good}.")),
            ("with a fourth part", format!("{good}.{}", parts[2])),
            ("of two parts", parts[..2].join(".")),
            ("of one part", parts[0].to_owned()),
            ("of five parts", [parts[0], "", parts[1], parts[2], parts[2]].join(".")),
            ("of no text", String::new()),
            ("of dots", "..".to_owned()),
            ("with its scheme before it", format!("Bearer {good}")),
        ] {
            self.add("malformed", what, token);
        }
        let [head, good] = [header(), claims()].map(|value| value.to_string());
        self.json_serialization(&head, &good);
        self.add("malformed", "its header is no JSON", self.forge.sign("es", &good));
        self.add("malformed", "its header is a list", self.forge.sign(format!("[{head}]"), &good));
        self.claims("bad_claims", "its claims are a list", format!("[{good}]"));
        self.claims("malformed", "with a comma too many", good.replace('}', ",}"));
    }

    /// Other ways to write a good token.
    fn spellings(&mut self) {
        let good = self.forge.sign(header(), claims());
        let parts: Vec<&str> = good.split('.').collect();
        let (start, last) = good.split_at(good.len() - 1);
        // 64 bytes leave four unused bits in the last character
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let next = alphabet.find(last).unwrap() + 1;
        let unused = format!("{start}{}", &alphabet[next..=next]);
        for (what, token) in [
            ("with an unused bit of its signature set", unused),
            ("with padding", format!("{good}==")),
            ("with padding of its claims", format!("{}.{}==.{}", parts[0], parts[1], parts[2])),
            ("with a line feed behind it", format!("{good}\n")),
            ("with a space before it", format!(" {good}")),
            ("with a space in its signature", format!("{start} {last}")),
        ] {
            self.add("malformed", what, token);
        }
        let good = claims().to_string();
        self.claims("malformed", "with text behind its claims", format!("{good} 1"));
        self.claims("malformed", "with a byte order mark", format!("\u{feff}{good}"));
        let broken = [&good.as_bytes()[..good.len() - 1], b",\"x\":\"\xff\"}"].concat();
        let token = self.forge.sign_bytes(header().to_string().as_bytes(), &broken);
        self.add("malformed", "its claims are no UTF-8", token);
    }

    /// RFC 7515, section 7.2: no spelling of an access token.
    fn json_serialization(&mut self, head: &str, good: &str) {
        let token = self.forge.sign(head, good);
        let names = ["protected", "payload", "signature"].map(str::to_owned);
        let members: Map<String, Value> =
            names.into_iter().zip(token.split('.').map(|part| json!(part))).collect();
        self.add("malformed", "in the JSON serialization", Value::from(members).to_string());
    }

    fn sizes(&mut self) {
        let padded = |size: usize| with(claims(), "pad", json!("x".repeat(size)));
        self.claims("valid", "of almost 8 KiB", padded(5700));
        self.claims("too_large", "of more than 8 KiB", padded(6000));
        let members: Map<String, Value> = (0..65).map(|at| (format!("x{at}"), json!(at))).collect();
        let mut many = claims();
        many.as_object_mut().unwrap().extend(members);
        self.claims("bad_claims", "with more than 64 claims", many);
    }
}
