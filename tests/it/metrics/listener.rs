//! Where figures are told: at a listener of their own, where one is asked for, and nowhere else.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::cli::{Home, Serving};
use crate::metrics::{Scrape, get, observed};
use crate::server::{Answer, on_both_engines};

on_both_engines! {
    async fn figures_are_told_at_their_own_listener_and_never_where_tokens_are_issued(server: Server) {
        let observed = observed(&server).await;
        assert_eq!(get(observed, "/metrics").await.status, 200);
        for path in ["/metrics", "/metrics/", "//metrics", "/v1/metrics", "/debug", "/oauth/metrics"] {
            let answer = server.get(path).await;
            assert!(matches!(answer.status, 401 | 404), "{path}: {answer:?}");
            assert!(!answer.body.contains("tenmint_"), "{path}: {answer:?}");
        }
    }

    async fn the_listener_for_those_who_watch_tells_health_and_nothing_else(server: Server) {
        let observed = observed(&server).await;
        for path in ["/healthz", "/readyz"] {
            let (there, here) = (server.get(path).await, get(observed, path).await);
            assert_eq!((here.status, &here.body), (200, &there.body), "{path}");
        }
        let nothing_here =
            ["/oauth/token", "/.well-known/jwks.json", "/v1/keys", "/forward-auth", "/oauth/revocations", "/"];
        for path in nothing_here {
            assert_eq!(get(observed, path).await.status, 404, "{path}");
        }
        server.clock.wind(std::time::Duration::from_hours(1));
        assert_eq!(get(observed, "/readyz").await.status, 503);
        assert_eq!(get(observed, "/healthz").await.status, 200);
    }
}

/// What the program answers to a GET.
fn asked(address: &str, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    Answer::parse(&answer)
}

#[test]
fn a_node_tells_figures_where_flag_environment_or_file_say_so_and_else_nowhere() {
    let home = Home::new();
    home.init("http://127.0.0.1");
    let serve = |arguments: &[&str]| {
        home.command(&[&["serve", "--listen", "127.0.0.1:0"], arguments].concat())
    };
    let told = "figures are told on http://";
    let address = |serving: &mut Serving| {
        let url = serving.address_behind(told);
        url.trim_end_matches("/metrics").to_owned()
    };
    let log = Serving::of(serve(&[])).stop();
    assert!(!log.contains(told), "{log}");

    let mut by_flag = Serving::of(serve(&["--observe-listen", "127.0.0.1:0"]));
    let page = asked(&address(&mut by_flag), "/metrics");
    let figures = Scrape::parse(&page.body);
    assert_eq!(figures.of("tenmint_ready"), 1.0);
    assert!(figures.of("process_resident_memory_bytes") > 1e6);
    assert!(figures.of("process_open_fds") < figures.of("process_max_fds"));
    assert!(figures.of("process_cpu_seconds_total") > 0.0);
    assert!(figures.of("process_start_time_seconds") > 1.7e9);
    assert!(figures.of("tenmint_http_connections_max") > 1.0);
    let public = by_flag.url();
    assert_eq!(asked(public.trim_start_matches("http://"), "/metrics").status, 404);
    by_flag.stop();

    let mut command = serve(&[]);
    command.env("TENMINT_OBSERVE_LISTEN", "127.0.0.1:0");
    let mut by_environment = Serving::of(command);
    assert_eq!(asked(&address(&mut by_environment), "/readyz").status, 200);
    by_environment.stop();

    let file = "[observe]\nlisten = '127.0.0.1:0'\n";
    std::fs::write(home.path().join("tenmint.toml"), file).unwrap();
    let mut by_file = Serving::of(serve(&[]));
    assert_eq!(asked(&address(&mut by_file), "/healthz").status, 200);
    by_file.stop();

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let refused = serve(&["--observe-listen", &taken]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = crate::cli::stderr(&refused);
    assert!(said.contains(&format!("cannot listen on {taken}")), "{said}");
}
