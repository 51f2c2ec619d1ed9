//! A panic is a bug of ours: its request is answered all the same, and the log says where it was.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use axum::body::Body;
use http::{Response, StatusCode};

use crate::http::error;

/// The answer that is being made, or a 500 that says nothing of why there is none.
pub(super) async fn caught(answering: impl Future<Output = Response<Body>>) -> Response<Body> {
    let mut answering = pin!(answering);
    poll_fn(|context| {
        // what it left half done was of this request, and is not polled again
        let polled = catch_unwind(AssertUnwindSafe(|| answering.as_mut().poll(context)));
        polled.unwrap_or_else(|_| Poll::Ready(panicked()))
    })
    .await
}

/// The answer to a request that met a bug.
pub(super) fn panicked() -> Response<Body> {
    error::problem(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "tenmint has a bug; the log says where",
    )
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_500_in_json_that_says_nothing_of_its_cause() {
        let response = caught(async { panic!("a secret of the caller") }).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["code"], "internal");
        assert!(!body.to_string().contains("secret"));
    }
}
