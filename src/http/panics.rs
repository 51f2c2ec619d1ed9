//! A panic is a bug of ours: its request is answered all the same, and the log says where it was.

use std::pin::Pin;

use axum::body::Body;
use http::Response;

use crate::http::error;
use crate::service::panics::unless_it_panics;

/// The answer of a route that is being made, or a 500 that says nothing of why there is none.
pub(super) async fn caught(
    route: &str,
    answering: Pin<&mut impl Future<Output = Response<Body>>>,
) -> Response<Body> {
    unless_it_panics(answering).await.unwrap_or_else(|| error::internal(route))
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use std::pin::pin;

    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_500_in_json_that_says_nothing_of_its_cause() {
        for (route, member, code) in [
            ("/v1/keys", "code", "internal"),
            ("/oauth/token", "error", "server_error"),
            ("/oauth/revocations", "error", "server_error"),
        ] {
            let response = caught(route, pin!(async { panic!("a secret of the caller") })).await;
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body[member], code, "{route}");
            assert!(route == "/v1/keys" || body["error_description"].is_string(), "{route}");
            assert!(!body.to_string().contains("secret"), "{route}");
        }
    }
}
