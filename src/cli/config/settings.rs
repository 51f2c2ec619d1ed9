//! The settings of `tenmint.toml`, and the page `docs/configuration.md` that lists them.

/// A setting of `tenmint.toml`, for the page that lists them.
pub(super) struct Setting {
    pub(super) key: &'static str,
    variable: &'static str,
    default: &'static str,
    about: &'static str,
}

/// All settings; a test holds the fields of the file to this table.
pub(super) const SETTINGS: [Setting; 22] = [
    Setting {
        key: "data_dir",
        variable: "TENMINT_DATA_DIR",
        default: "`./data`",
        about: "the directory of the embedded database, and of what a node keeps for itself",
    },
    Setting {
        key: "keys_dir",
        variable: "TENMINT_KEYS_DIR",
        default: "`./keys`",
        about: "the directory of the master key",
    },
    Setting {
        key: "database_url",
        variable: "TENMINT_DATABASE_URL",
        default: "SQLite in `data_dir`",
        about: "`postgres://...` or `sqlite:PATH`",
    },
    Setting {
        key: "database_url_file",
        variable: "TENMINT_DATABASE_URL_FILE",
        default: "-",
        about: "a file that holds the URL of the database, which can hold a password",
    },
    Setting {
        key: "migrate",
        variable: "-",
        default: "`true`",
        about: "whether a node that starts brings the tables of its database up to date; with `false` it refuses to \
                start on older ones, and `tenmint migrate` does it",
    },
    Setting {
        key: "listen",
        variable: "TENMINT_LISTEN",
        default: "`127.0.0.1:8080`",
        about: "where a node listens",
    },
    Setting {
        key: "tls.certificate",
        variable: "TENMINT_TLS_CERTIFICATE",
        default: "no TLS",
        about: "the certificate chain in PEM, that of the server first; read anew when it changes, as \
                [operating.md](operating.md) tells",
    },
    Setting {
        key: "tls.private_key",
        variable: "TENMINT_TLS_PRIVATE_KEY",
        default: "no TLS",
        about: "its private key in PEM, not encrypted: PKCS#8, PKCS#1 or SEC1",
    },
    Setting {
        key: "forward_auth.listen",
        variable: "-",
        default: "nowhere",
        about: "where gateways ask `/forward-auth` without a key of their own; whoever reaches it may \
                ask, so keep it on a loopback or private address",
    },
    Setting {
        key: "observe.listen",
        variable: "TENMINT_OBSERVE_LISTEN",
        default: "nowhere",
        about: "where `/metrics` is told, and `/healthz` and `/readyz` too, in plain HTTP and to whoever \
                reaches it, so keep it on a loopback or private address",
    },
    Setting {
        key: "observe.traces",
        variable: "TENMINT_OBSERVE_TRACES",
        default: "nowhere",
        about: "the URL at which a collector takes traces over OTLP/HTTP, as \
                `http://127.0.0.1:4318/v1/traces`; what it is told is in [operating.md](operating.md#traces)",
    },
    Setting {
        key: "observe.traces_ratio",
        variable: "TENMINT_OBSERVE_TRACES_RATIO",
        default: "1.0",
        about: "the share of requests that it is told of, from 0 to 1; a request that comes with a trace is told \
                of as that trace says",
    },
    Setting {
        key: "ledger.mode",
        variable: "-",
        default: "`durable`",
        about: "how surely a token is on record: `durable` before it leaves, `buffered` soon after, `off` \
                never",
    },
    Setting {
        key: "ledger.keep",
        variable: "-",
        default: "for ever",
        about: "how long the record of a token is kept, as `400d`; what is older is dropped",
    },
    Setting {
        key: "max_connections",
        variable: "-",
        default: "25000, or what the limit of open files allows",
        about: "connections at once, of one address no more than half; further ones wait",
    },
    Setting {
        key: "failures_per_minute",
        variable: "-",
        default: "60",
        about: "how many API keys that nobody has one IPv4 address or IPv6 /64 may send at once, and then a \
                minute, before it is told to wait; a change with a key that holds no more counts too. `0` is \
                no bound; a right key is never held up",
    },
    Setting {
        key: "trusted_proxies",
        variable: "TENMINT_TRUSTED_PROXIES",
        default: "nobody",
        about: "addresses and CIDRs whose `forwarding_header` is believed; a list, with commas in the \
                variable",
    },
    Setting {
        key: "forwarding_header",
        variable: "TENMINT_FORWARDING_HEADER",
        default: "-",
        about: "the one header that the proxies write: `x-forwarded-for` or `forwarded`",
    },
    Setting {
        key: "revocation_journal",
        variable: "TENMINT_REVOCATION_JOURNAL",
        default: "`revocations.journal` in `keys_dir`",
        about: "the file to which a node appends what ends for ever, so that a restored database brings \
                nothing back; apart from the database, one for each node",
    },
    Setting {
        key: "signing_keys.rotate_every",
        variable: "-",
        default: "`90d`",
        about: "how long a key signs before the next one does; `never` to rotate by command alone. The \
                same on every node",
    },
    Setting {
        key: "signing_keys.publish_for",
        variable: "-",
        default: "`24h`",
        about: "how long a key is in the JWKS before it signs, `2h` at least: as long as verifiers hold \
                a JWKS. The same on every node",
    },
    Setting {
        key: "store_outage.serve_for",
        variable: "-",
        default: "`5m`",
        about: "how long a node issues without its database: a number and `s`, `m`, `h` or `d`. The same \
                on every node: a revocation is told for as long",
    },
];

/// What stands above the table of settings.
const START: &str = include_str!("settings.md");

/// The page `docs/configuration.md`.
pub(in crate::cli) fn page() -> String {
    let rows = SETTINGS.iter().map(|Setting { key, variable, default, about }| {
        let variable = if *variable == "-" { "-".to_owned() } else { format!("`{variable}`") };
        format!("| `{key}` | {variable} | {default} | {about} |\n")
    });
    let heading = "\n| `tenmint.toml` | Variable | Default | Meaning |\n|---|---|---|---|\n";
    format!("{START}{heading}{}", rows.collect::<String>())
}
