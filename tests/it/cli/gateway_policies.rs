//! `tenmint gateway-policies`, and the listener on which gateways need no key.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use super::{Home, Live, Serving, each};

#[test]
fn a_policy_is_made_changed_and_deleted() {
    for live in Live::on_each_engine() {
        let made = live.json(&[
            "gateway-policies",
            "create",
            "api",
            "--audience",
            "default",
            "--rule",
            "DELETE /v1/projects/{id} admin:projects/{id}",
            "--rule",
            "/v1/{*rest} :{*rest}",
        ]);
        let rules = json!([
            {"methods": ["DELETE"], "path": "/v1/projects/{id}", "action": "admin", "resource": "projects/{id}"},
            {"path": "/v1/{*rest}", "resource": "{*rest}"},
        ]);
        assert_eq!((&made["name"], &made["rules"]), (&json!("api"), &rules));
        assert_eq!(live.json(&["gateway-policies", "show", "api"]), made);
        assert_eq!(each(&live.json(&["gateway-policies", "list"]), "name"), ["api"]);
        let edited = live.json(&["gateway-policies", "edit", "api", "--rule", "/health chat"]);
        let rules = json!([{"path": "/health", "action": "chat", "resource": "health"}]);
        assert_eq!((&edited["id"], &edited["rules"]), (&made["id"], &rules));
        let (code, told) = live.refusal(&["gateway-policies", "edit", "api", "--rule", "/a//b"]);
        assert!(code == 2 && told.contains("rules[0].path"), "{code} {told}");
        live.json(&["gateway-policies", "delete", "api", "--force"]);
        let (code, _) = live.refusal(&["gateway-policies", "show", "api"]);
        assert_eq!(code, 3);
    }
}

#[test]
fn a_private_listener_is_there_where_the_configuration_says_so() {
    let home = Home::new();
    home.init("http://127.0.0.1");
    let file = "listen = '127.0.0.1:0'\n[forward_auth]\nlisten = '127.0.0.1:0'\n";
    std::fs::write(home.path().join("tenmint.toml"), file).unwrap();
    let mut serving = Serving::start(&home, &[]);
    let address = serving.address_behind("gateways ask without a key on http://");
    let mut stream = TcpStream::connect(address.trim_end_matches("/forward-auth")).unwrap();
    let request =
        "GET /forward-auth?org=default&policy=x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("unknown_policy"), "{answer}");
    serving.stop();
}
