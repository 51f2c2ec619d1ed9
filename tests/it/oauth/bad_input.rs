//! What a token request must not be: each row of docs/contract.md, "Refusal", and what else real clients
//! send. Every refusal is JSON with a registered code, and no input makes a 5xx.

use crate::server::{Answer, basic, on_both_engines};

const FORM: &str = "application/x-www-form-urlencoded";

/// What every refusal of the endpoint has, whatever it refuses.
fn check_refusal(answer: &Answer, key_text: &str) {
    assert!((400..500).contains(&answer.status), "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("pragma"), Some("no-cache"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert!(answer.header("location").is_none() && answer.header("set-cookie").is_none());
    let allowed = |c: char| (' '..='~').contains(&c) && c != '"' && c != '\\';
    assert!(answer.description().chars().all(allowed), "{answer:?}");
    assert!(!answer.description().is_empty());
    assert!(!format!("{answer:?}").contains(key_text), "a secret came back");
    let challenge = answer.header("www-authenticate");
    assert_eq!(challenge.is_some(), answer.status == 401, "{answer:?}");
}

/// The challenge of RFC 9110, section 11.6.1, with the code that some clients read only there.
fn challenge(scheme: &str, description: &str) -> String {
    format!(
        "{scheme} realm=\"tenmint\", error=\"invalid_client\", error_description=\"{description}\""
    )
}

on_both_engines! {
    async fn every_method_but_post_is_405_with_allow(server: Server) {
        for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD", "FROB"] {
            let answer = server.send(method, "/oauth/token", &[("X-Canary", "echo-me")], b"").await;
            assert_eq!(answer.status, 405, "{method}");
            assert_eq!(answer.header("allow"), Some("POST"));
            assert!(!format!("{answer:?}").contains("echo-me"));
            if method != "HEAD" {
                assert_eq!(answer.outcome(), "405 invalid_request");
                check_refusal(&answer, &server.administrator.text);
            }
        }
    }

    async fn only_a_form_is_a_form(server: Server) {
        let key = server.api_key("chat").await;
        let credential = basic(&key.id.to_string(), &key.text);
        let body = b"grant_type=client_credentials";
        for content_type in [
            FORM,
            "APPLICATION/X-WWW-Form-URLencoded",
            "application/x-www-form-urlencoded;charset=UTF-8",
            "application/x-www-form-urlencoded; charset=utf-8",
            "application/x-www-form-urlencoded; charset=\"utf-8\"",
        ] {
            let headers = [("Content-Type", content_type), ("Authorization", &credential)];
            assert_eq!(server.send("POST", "/oauth/token", &headers, body).await.outcome(), "200", "{content_type}");
        }
        for content_type in [
            "application/json",
            "multipart/form-data; boundary=x",
            "text/plain",
            "application/x-www-form-urlencodedx",
            "application/x-www-form-urlencoded; charset=latin-1",
            "application/x-www-form-urlencoded; charset=\"utf-8",
            "application/x-www-form-urlencoded; \"charset=utf-8\"",
            "application/x-www-form-urlencoded, text/plain",
            "",
        ] {
            let headers = [("Content-Type", content_type), ("Authorization", &credential)];
            let answer = server.send("POST", "/oauth/token", &headers, body).await;
            assert_eq!(answer.outcome(), "415 invalid_request", "{content_type}");
            check_refusal(&answer, &key.text);
        }
        let none = server.send("POST", "/oauth/token", &[("Authorization", &credential)], body).await;
        assert_eq!(none.outcome(), "415 invalid_request");
        let twice = [("Content-Type", FORM), ("Content-Type", FORM), ("Authorization", &credential)];
        assert_eq!(server.send("POST", "/oauth/token", &twice, body).await.outcome(), "415 invalid_request");
        let json = format!(r#"{{"grant_type":"client_credentials","client_id":"{}"}}"#, key.id);
        let headers = [("Content-Type", "application/json"), ("Authorization", credential.as_str())];
        let answer = server.send("POST", "/oauth/token", &headers, json.as_bytes()).await;
        assert_eq!(answer.outcome(), "415 invalid_request");
    }

    async fn a_repeated_parameter_is_refused_however_it_is_spelled(server: Server) {
        let key = server.api_key("chat").await;
        for form in [
            "scope=chat&scope=chat",
            "scope=chat&sc%6Fpe=chat",
            "grant_type=client_credentials",
            "audience=a&audience=b",
            "foo=1&foo=2",
            "client_id=a&client_id=a",
        ] {
            let answer = server.token(&key, form).await;
            assert_eq!(answer.outcome(), "400 invalid_request", "{form}");
            check_refusal(&answer, &key.text);
        }
        for form in ["scope=&scope=chat", "code=&code=", "foo=1&bar=2", "&&", "=", "=x&scope=chat"] {
            assert_eq!(server.token(&key, form).await.outcome(), "200", "{form}");
        }
    }

    async fn the_url_counts_for_nothing(server: Server) {
        let key = server.api_key("chat").await;
        let credentials = format!(
            "/oauth/token?grant_type=client_credentials&client_id={}&client_secret={}&scope=chat",
            key.id, key.text
        );
        let answer = server.send("POST", &credentials, &[("Content-Type", FORM)], b"").await;
        assert_eq!(answer.outcome(), "401 invalid_client");
        check_refusal(&answer, &key.text);
        let credential = basic(&key.id.to_string(), &key.text);
        let headers = [("Content-Type", FORM), ("Authorization", credential.as_str())];
        let path = "/oauth/token?scope=read:beyond&grant_type=password";
        let body = b"grant_type=client_credentials";
        assert_eq!(server.send("POST", path, &headers, body).await.json()["scope"], "chat");
    }

    async fn two_credentials_are_refused_whichever_is_right(server: Server) {
        let key = server.api_key("chat").await;
        let right = basic(&key.id.to_string(), &key.text);
        let wrong = basic(&key.id.to_string(), "wrong");
        let bearer = format!("Bearer {}", key.text);
        let secret = format!("client_id={}&client_secret={}", key.id, key.text);
        for (form, headers) in [
            (secret.as_str(), vec![("Authorization", right.as_str())]),
            (secret.as_str(), vec![("Authorization", wrong.as_str())]),
            (secret.as_str(), vec![("Authorization", bearer.as_str())]),
            ("client_secret=wrong", vec![("Authorization", right.as_str())]),
            ("", vec![("Authorization", right.as_str()), ("Authorization", right.as_str())]),
            ("", vec![("Authorization", right.as_str()), ("Authorization", bearer.as_str())]),
            ("", vec![("Authorization", wrong.as_str()), ("authorization", right.as_str())]),
            ("client_id=key_0000000000000000", vec![("Authorization", right.as_str())]),
            ("client_secret=only", vec![]),
        ] {
            let answer = server.post(form, &headers).await;
            assert_eq!(answer.outcome(), "400 invalid_request", "{form} {headers:?}");
            check_refusal(&answer, &key.text);
        }
    }

    async fn no_credential_gets_the_challenge(server: Server) {
        for form in ["", "client_id=key_0000000000000000", "client_secret=", "client_id=&client_secret="] {
            let answer = server.post(form, &[]).await;
            assert_eq!(answer.outcome(), "401 invalid_client", "{form}");
            assert!(answer.header("www-authenticate").unwrap().starts_with("Basic realm="));
            check_refusal(&answer, &server.administrator.text);
        }
        // a client that finds out what is asked for sends nothing at first
        let empty = server.post_exactly("", &[]).await;
        assert_eq!(empty.outcome(), "401 invalid_client");
    }

    async fn a_wrong_credential_looks_the_same_whatever_is_wrong(server: Server) {
        let key = server.api_key("chat").await;
        let other = server.api_key("chat").await;
        let id = key.id.to_string();
        let last = if key.text.ends_with('x') { 'y' } else { 'x' };
        let typo = format!("{}{last}", key.text.split_at(key.text.len() - 1).0);
        let unknown = "key_0000000000000000";
        let credentials = [
            basic(&id, "wrong"),
            basic(&id, ""),
            basic(&id, &typo),
            basic(&id, &key.text.to_uppercase()),
            basic(&id, &format!("{}\0", key.text)),
            basic(&id, &format!(" {}", key.text)),
            basic(&id, &key.text[1..]),
            basic(&id, &key.text[..key.text.len() - 1]),
            basic(&id, &other.text),
            basic(unknown, &key.text),
            basic(&other.id.to_string(), &key.text),
            basic(&key.text, ""),
            basic(&id.to_uppercase(), &key.text),
            basic("", "wrong"),
            "Basic".to_owned(),
            "Basic ".to_owned(),
            "Basic !!!!".to_owned(),
            "Basic bm9jb2xvbg==".to_owned(),
            format!("{}=", basic(&id, &key.text)),
            basic(&id, &key.text).trim_end_matches('=').to_owned() + "A",
            format!("{} trailing", basic(&id, &key.text)),
            basic(&id, &key.text).replacen("Basic ", "Basic\u{a0}", 1),
            "Digest username=\"x\"".to_owned(),
            key.text.clone(),
        ];
        for credential in &credentials {
            let answer = server.post("", &[("Authorization", credential)]).await;
            assert_eq!(answer.outcome(), "401 invalid_client", "{credential}");
            assert_eq!(answer.description(), "the API key is not known", "{credential}");
            assert_eq!(answer.header("www-authenticate").unwrap(), challenge("Basic", "the API key is not known"));
            check_refusal(&answer, &key.text);
        }
        for text in ["", "wrong", &typo, &format!("{} x", key.text), &format!("{},x", key.text)] {
            let answer = server.post("", &[("Authorization", &format!("Bearer {text}"))]).await;
            assert_eq!(answer.outcome(), "401 invalid_client", "{text}");
            assert_eq!(answer.header("www-authenticate").unwrap(), challenge("Bearer", "the API key is not known"));
        }
        for body in [
            format!("client_id={id}&client_secret=wrong"),
            format!("client_id={unknown}&client_secret={}", key.text),
            format!("client_id={}&client_secret={}", other.id, key.text),
            format!("client_id={id}&client_secret={}%00", key.text),
            format!("client_id={id}&client_secret={}+", key.text),
            format!("client_id={id}&client_secret={}", key.text.replace('_', "%255F")),
        ] {
            let answer = server.post(&body, &[]).await;
            assert_eq!(answer.outcome(), "400 invalid_client", "{body}");
            assert_eq!(answer.description(), "the API key is not known", "{body}");
            check_refusal(&answer, &key.text);
        }
    }

    async fn missing_padding_of_basic_is_refused(server: Server) {
        // a key text of each length modulo three, so that some need padding
        let key = server.api_key("chat").await;
        for id in ["", "key_", &key.id.to_string()] {
            let credential = basic(id, &key.text);
            let bare = credential.trim_end_matches('=');
            if bare != credential {
                let answer = server.post("", &[("Authorization", bare)]).await;
                assert_eq!(answer.outcome(), "401 invalid_client");
            }
        }
    }

    async fn one_keys_id_never_gives_anothers_scopes(server: Server) {
        let narrow = server.api_key("read:a").await;
        let wide = server.api_key("*:*").await;
        let credential = basic(&narrow.id.to_string(), &narrow.text);
        let form = format!("client_id={}&scope=write:b", wide.id);
        let answer = server.post(&form, &[("Authorization", &credential)]).await;
        assert_eq!(answer.outcome(), "400 invalid_request");
        let answer = server.post("scope=write:b", &[("Authorization", &credential)]).await;
        assert_eq!(answer.outcome(), "400 invalid_scope");
    }

    async fn another_grant_type_is_named_as_such(server: Server) {
        let key = server.api_key("chat").await;
        let credential = basic(&key.id.to_string(), &key.text);
        let headers = [("Authorization", credential.as_str())];
        for form in ["grant_type=password", "grant_type=Client_Credentials", "grant_type=client_credentials+", "grant_type=authorization_code&code=x"] {
            let answer = server.post_exactly(form, &headers).await;
            assert_eq!(answer.outcome(), "400 unsupported_grant_type", "{form}");
            check_refusal(&answer, &key.text);
        }
        for form in ["scope=chat", "grant_type=", "Grant_Type=client_credentials"] {
            let answer = server.post_exactly(form, &headers).await;
            assert_eq!(answer.outcome(), "400 invalid_request", "{form}");
        }
    }

    async fn what_the_caller_sends_never_becomes_a_claim(server: Server) {
        let key = server.api_key("chat").await;
        let form = "sub=usr_evil&iss=https://evil&org=org_evil&exp=9999999999&jti=x&rev=0&client_assertion=x\
                    &expires_in=99999&token_type=mac&claims=%7B%7D&aud=https://evil";
        let claims = server.token(&key, form).await.claims();
        let plain = server.token(&key, "").await.claims();
        for name in ["sub", "iss", "org", "exp", "rev", "aud", "scope", "client_id", "iat"] {
            assert_eq!(claims[name], plain[name], "{name}");
        }
        assert!(!claims.to_string().contains("evil"));
    }

    async fn a_body_that_is_no_form_is_refused(server: Server) {
        let key = server.api_key("chat").await;
        let credential = basic(&key.id.to_string(), &key.text);
        let headers = [("Content-Type", FORM), ("Authorization", credential.as_str())];
        let many = (0..120).map(|n| format!("b{n}=1")).collect::<Vec<_>>().join("&");
        for body in [
            b"grant_type=client_credentials&scope=%ff".as_slice(),
            b"grant_type=client_credentials&scope=\xff\xfe",
            b"grant_type=client_credentials&scope=%",
            b"grant_type=client_credentials&scope=%2",
            b"grant_type=client_credentials&scope=%zz",
            b"grant_type=client_credentials&%=1",
            many.as_bytes(),
        ] {
            let answer = server.send("POST", "/oauth/token", &headers, body).await;
            assert_eq!(answer.outcome(), "400 invalid_request", "{}", String::from_utf8_lossy(body));
            check_refusal(&answer, &key.text);
        }
        let nul = server.send("POST", "/oauth/token", &headers, b"grant_type=client_credentials&scope=chat%00").await;
        assert_eq!(nul.outcome(), "400 invalid_scope");
    }

    async fn a_large_body_is_413_announced_or_not(server: Server) {
        let key = server.api_key("chat").await;
        let credential = basic(&key.id.to_string(), &key.text);
        let padded = |bytes: usize| {
            let start = "grant_type=client_credentials&x=";
            format!("{start}{}", "y".repeat(bytes - start.len()))
        };
        let headers = [("Content-Type", FORM), ("Authorization", credential.as_str())];
        let fits = server.send("POST", "/oauth/token", &headers, padded(8192).as_bytes()).await;
        assert_eq!(fits.outcome(), "200");
        let announced = server.send("POST", "/oauth/token", &headers, padded(8193).as_bytes()).await;
        assert_eq!(announced.outcome(), "413 invalid_request");
        check_refusal(&announced, &key.text);
        let head = format!(
            "POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nAuthorization: {credential}\r\n\
             Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        );
        let chunked = format!("{head}2001\r\n{}\r\n0\r\n\r\n", padded(8193));
        assert_eq!(server.send_bytes(chunked.as_bytes()).await.outcome(), "413 invalid_request");
        let small = format!("{head}1d\r\ngrant_type=client_credentials\r\n0\r\n\r\n");
        assert_eq!(server.send_bytes(small.as_bytes()).await.status, 200);
    }

    async fn a_compressed_body_is_not_unpacked(server: Server) {
        let key = server.api_key("chat").await;
        let credential = basic(&key.id.to_string(), &key.text);
        let headers =
            [("Content-Type", FORM), ("Authorization", credential.as_str()), ("Content-Encoding", "gzip")];
        let body = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b, 0x2f];
        let answer = server.send("POST", "/oauth/token", &headers, &body).await;
        assert_eq!(answer.outcome(), "415 invalid_request");
        check_refusal(&answer, &key.text);
    }

    async fn the_answer_is_json_whatever_is_accepted(server: Server) {
        let key = server.api_key("chat").await;
        let credential = basic(&key.id.to_string(), &key.text);
        for accept in ["text/html", "application/xml;q=0.9", "*/*", "nonsense"] {
            let headers = [("Authorization", credential.as_str()), ("Accept", accept), ("Accept-Encoding", "gzip, br")];
            let answer = server.post("", &headers).await;
            assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
            assert_eq!(answer.header("content-encoding"), None);
            let refused = server.post("", &[("Accept", accept)]).await;
            assert_eq!(refused.header("content-type"), Some("application/json"));
        }
    }

    async fn a_forged_host_changes_nothing(server: Server) {
        let key = server.api_key("chat").await;
        let credential = basic(&key.id.to_string(), &key.text);
        let headers = [
            ("Authorization", credential.as_str()),
            ("X-Forwarded-Host", "evil.example"),
            ("X-Forwarded-Proto", "https"),
            ("Forwarded", "host=evil.example;proto=https"),
        ];
        assert_eq!(server.post("", &headers).await.claims()["iss"], "http://127.0.0.1");
        let forged = b"GET /.well-known/oauth-authorization-server HTTP/1.1\r\nHost: evil.example\r\n\
                       X-Forwarded-Host: evil.example\r\nConnection: close\r\n\r\n";
        assert!(!server.send_bytes(forged).await.body.contains("evil"));
    }
}
