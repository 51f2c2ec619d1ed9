//! `tenmint doctor`: what is wrong, and what to do.

use std::process::ExitCode;

use clap::Args;
use http::Request;
use serde_json::{Value, json};

use crate::cli::config::Config;
use crate::cli::output::Output;
use crate::error::Result;
use crate::http::client::send;
use crate::http::tls::{Tls, TlsFiles};
use crate::model::installation::Issuer;
use crate::service::doctor::{Finding, examine};

/// Arguments of `tenmint doctor`.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Do not ask whether the issuer answers
    #[arg(long)]
    offline: bool,
}

pub(super) async fn run(
    config: Result<Config>,
    args: &DoctorArgs,
    output: &Output,
) -> Result<ExitCode> {
    let findings = match config {
        Ok(config) => examine_all(&config, args).await,
        Err(cause) => vec![Finding::bad("configuration", cause.to_string())],
    };
    let json: Vec<Value> = findings.iter().map(body).collect();
    let lines: Vec<String> = findings.iter().map(line).collect();
    output.result(&json!({ "findings": json }), &lines.join("\n"));
    let well = findings.iter().all(|finding| finding.result.is_ok());
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn examine_all(config: &Config, args: &DoctorArgs) -> Vec<Finding> {
    let source = config.file.as_ref().map_or_else(
        || "defaults, flags and environment".to_owned(),
        |file| file.display().to_string(),
    );
    let mut findings = vec![Finding::good("configuration", source)];
    findings.extend(config.tls.clone().map(examine_certificate));
    let (examined, service) = examine(&config.database, &config.keys_dir).await;
    findings.extend(examined);
    if let Some(service) = service {
        if !args.offline {
            findings.push(examine_issuer(&service.installation().issuer).await);
        }
        service.close().await;
    }
    findings
}

/// Whether a node could show it.
fn examine_certificate(files: TlsFiles) -> Finding {
    let shown = files.certificate.display().to_string();
    match Tls::load(files) {
        Ok(_) => Finding::good("certificate", format!("{shown} and its private key fit")),
        Err(cause) => Finding::bad("certificate", cause.to_string()),
    }
}

/// What clients see: the metadata under the issuer, with the issuer in it byte for byte.
async fn examine_issuer(issuer: &Issuer) -> Finding {
    let url = format!("{issuer}/.well-known/oauth-authorization-server");
    let Ok(request) = Request::get(&url).body(Vec::new()) else {
        return Finding::bad("issuer", format!("`{url}` is no URL"));
    };
    let answer = match send(request).await {
        Ok(answer) => answer,
        Err(cause) => {
            let text = format!(
                "{issuer} does not answer ({cause}): start `tenmint serve`, or mend the name or \
                 proxy in front of it; a certificate of an authority of your own is trusted where \
                 `SSL_CERT_FILE` names that"
            );
            return Finding::bad("issuer", text);
        }
    };
    let document: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    if document.get("issuer").and_then(Value::as_str) == Some(issuer.as_str()) {
        return Finding::good("issuer", format!("{issuer} answers as itself"));
    }
    let status = answer.status();
    let text = format!("what answers at {url} ({status}) is not this installation");
    Finding::bad("issuer", text)
}

fn body(finding: &Finding) -> Value {
    let (ok, text) = match &finding.result {
        Ok(found) => (true, found),
        Err(what_to_do) => (false, what_to_do),
    };
    json!({"check": finding.check, "ok": ok, "message": text})
}

fn line(finding: &Finding) -> String {
    match &finding.result {
        Ok(found) => format!("ok    {:<14} {found}", finding.check),
        Err(what_to_do) => format!("FAIL  {:<14} {what_to_do}", finding.check),
    }
}
