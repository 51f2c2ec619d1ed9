//! `/v1/installation/signing-keys`: what signs tokens. Private keys are imported on the machine of a
//! node alone: none comes by a network.

use axum::extract::Path;
use http::StatusCode;

use crate::error::Result;
use crate::http::api::answer::{Answer, Listed, Written, shown, written};
use crate::http::api::operation::{Operation, Plane, get, post};
use crate::http::api::request::{Nothing, Read, Write};
use crate::model::signing_key::{RotateSigningKey, ShownSigningKey};
use crate::service::signing_keys::Asker;

pub(super) fn operations() -> Vec<Operation> {
    const ADMIN: &str = "admin:installation/signing-keys";
    let operations = vec![
        get("/v1/installation/signing-keys", "list_signing_keys", list)
            .says("List the signing keys, the oldest first")
            .needs("read:installation/signing-keys")
            .gives::<Listed<ShownSigningKey>>(),
        post("/v1/installation/signing-keys/rotate", "rotate_signing_key", rotate)
            .says("Let the next signing key sign, as soon as every verifier can hold it")
            .needs(ADMIN)
            .changes("signing_key.rotate")
            .once()
            .takes::<RotateSigningKey>()
            .gives::<Written<ShownSigningKey>>(),
        post("/v1/installation/signing-keys/{kid}/withdraw", "withdraw_signing_key", withdraw)
            .says("Withdraw a signing key that leaked: nothing that it signed holds any more")
            .needs(ADMIN)
            .changes("signing_key.withdraw")
            .gives::<Written<ShownSigningKey>>(),
    ];
    operations.into_iter().map(|operation| operation.on_plane(Plane::Installation)).collect()
}

async fn list(read: Read<Nothing>) -> Result<Answer> {
    let items = read.service().list_signing_keys(Some(&read.actor)).await?;
    Ok(shown(&Listed::new(items, None)))
}

async fn rotate(write: Write<RotateSigningKey>) -> Result<Answer> {
    let service = write.service().clone();
    let changed = service.rotate_signing_key(Asker::Caller(&write.call), write.ask).await?;
    Ok(written(changed, StatusCode::OK, |key| key))
}

async fn withdraw(Path(kid): Path<String>, write: Write<Nothing>) -> Result<Answer> {
    let changed = write.service().withdraw_signing_key(Asker::Caller(&write.call), &kid).await?;
    Ok(written(changed, StatusCode::OK, |key| key))
}
