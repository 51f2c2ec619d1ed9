//! Kill -9 in the middle of an all-or-nothing import: there is nothing of it.

use std::io::{Read, Write};
use std::net::TcpStream;

use tenmint::clock::Clock;
use tenmint::model::time::Timestamp;
use tenmint::store::{DatabaseUrl, Store, api_keys, imports, orgs};

use super::*;
use crate::cli::{Home, Serving, free_address};

/// Begins an import, and gives up the connection once a line was told.
fn begin(address: &str, api_key: &str, query: &str, file: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = format!(
        "POST /v1/keys/import{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api_key}\r\n\
         Content-Type: text/csv\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{file}\r\n",
        file.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// Reads until the answer holds a text.
fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let (mut answer, mut bytes) = (String::new(), [0; 4_096]);
    while !answer.contains(text) {
        let count = stream.read(&mut bytes).unwrap();
        assert!(count > 0, "{answer}");
        answer += std::str::from_utf8(&bytes[..count]).unwrap();
    }
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_the_middle_leaves_nothing_that_anybody_sees() {
    for home in Home::on_each_engine() {
        let created = home.init("https://auth.example.com");
        let api_key = created["api_key"]["api_key"].as_str().unwrap();
        let address = free_address();
        let serving = Serving::start(&home, &["--listen", &address]);
        let file = file_of("killed", 250);
        let mut import = begin(&address, api_key, "?atomic=true", &file);
        read_until(&mut import, "\"accepted\"");
        drop(serving);

        let url = home.database_url.as_deref().map(DatabaseUrl::parse);
        let url = url.map_or_else(
            || DatabaseUrl::in_directory(&home.path().join("data")),
            |url| url.unwrap(),
        );
        let store = Store::open(&url).await.unwrap();
        let mut read = store.read().await.unwrap();
        let org = orgs::list(&mut read).await.unwrap().remove(0).id;
        assert!(api_keys::count(&mut read).await.unwrap() > 90, "it had stored some");
        drop(read);
        let service =
            Service::open(&url, &home.path().join("keys"), Clock::system()).await.unwrap();
        let node = Node::start(service, NodeConfig::in_directory(home.path())).await.unwrap();
        assert_eq!(indexed(&node.mint), (1, 1), "the administrator's alone");
        let actor = crate::server::operator(org);
        let all = ListApiKeys { limit: 9, ..ListApiKeys::default() };
        let page = node.service.list_api_keys(&actor, org, all).await.unwrap();
        assert_eq!((page.items.len(), page.next), (1, None));

        // as if it had been silent for long enough
        let ever = Timestamp::from_millis(i64::MAX);
        let dead = imports::list_dead(&mut *store.read().await.unwrap(), ever).await.unwrap();
        let mut append = store.append().await.unwrap();
        assert!(imports::give_up(&mut append, &dead[0].id, ever).await.unwrap());
        append.commit().await.unwrap();
        let serving = Serving::start(&home, &["--listen", &address]);
        let mut import = begin(&address, api_key, "?atomic=true", &file);
        import.write_all(b"0\r\n\r\n").unwrap();
        let report = read_until(&mut import, "\"status\":\"done\"");
        assert!(report.contains("\"created\":250"), "{report}");
        drop(serving);
    }
}
