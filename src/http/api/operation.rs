//! One operation of the management API: where it is, what it needs, what it takes and gives.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::{Method, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::http::App;
use crate::http::api::guard::{Guard, guard};

/// Which side of the service an operation touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plane {
    /// One organization, and its spaces.
    Organization,
    /// The installation: for admins of the account alone.
    Installation,
    /// The caller itself: any credential for the management API.
    Caller,
}

impl Plane {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Organization => "organization",
            Self::Installation => "installation",
            Self::Caller => "caller",
        }
    }
}

type MakeSchema = fn(&mut SchemaGenerator) -> Schema;

/// An operation, as the router and the document know it.
pub(super) struct Operation {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) plane: Plane,
    /// The scope that it needs, with `{id}` for what is named.
    pub(super) scope: &'static str,
    /// What the audit calls it, where it changes something.
    pub(super) action: Option<&'static str>,
    pub(super) query: Option<MakeSchema>,
    pub(super) takes: Option<MakeSchema>,
    pub(super) gives: Option<MakeSchema>,
    pub(super) success: StatusCode,
    /// Whether what it takes and gives comes line by line.
    pub(super) by_lines: bool,
    /// Whether it understands `Idempotency-Key`.
    pub(super) repeatable: bool,
    handler: MethodRouter<Arc<App>>,
}

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

impl Operation {
    pub(super) fn new<H, T>(method: Method, path: &'static str, id: &'static str, run: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
        Self {
            method,
            path,
            id,
            summary: "",
            plane: Plane::Organization,
            scope: "",
            action: None,
            query: None,
            takes: None,
            gives: None,
            success: StatusCode::OK,
            by_lines: false,
            repeatable: false,
            handler: on(filter, run),
        }
    }

    pub(super) fn says(mut self, summary: &'static str) -> Self {
        self.summary = summary;
        self
    }

    pub(super) fn needs(mut self, scope: &'static str) -> Self {
        self.scope = scope;
        self
    }

    pub(super) fn on_plane(mut self, plane: Plane) -> Self {
        self.plane = plane;
        self
    }

    /// It changes something, and the audit calls it so.
    pub(super) fn changes(mut self, action: &'static str) -> Self {
        self.action = Some(action);
        self
    }

    pub(super) fn asks<Q: JsonSchema>(mut self) -> Self {
        self.query = Some(schema_of::<Q>);
        self
    }

    pub(super) fn takes<B: JsonSchema>(mut self) -> Self {
        self.takes = Some(schema_of::<B>);
        self
    }

    pub(super) fn gives<B: JsonSchema>(mut self) -> Self {
        self.gives = Some(schema_of::<B>);
        self
    }

    /// It makes something: 201, and a repeat under one `Idempotency-Key` makes it once.
    pub(super) fn creates<B: JsonSchema>(mut self) -> Self {
        self.success = StatusCode::CREATED;
        self.repeatable = true;
        self.gives::<B>()
    }

    /// It takes a file, and gives a report, of one such thing a line.
    pub(super) fn by_lines(mut self) -> Self {
        self.by_lines = true;
        self
    }

    /// A repeat under one `Idempotency-Key` does it once.
    pub(super) fn once(mut self) -> Self {
        self.repeatable = true;
        self
    }

    pub(super) fn add_to(self, router: Router<Arc<App>>, app: &Arc<App>) -> Router<Arc<App>> {
        let guarding =
            Guard { app: app.clone(), path: self.path, action: self.action, plane: self.plane };
        router.route(self.path, self.handler.layer(from_fn_with_state(guarding, guard)))
    }
}

pub(super) fn get<H: Handler<T, Arc<App>>, T: 'static>(
    path: &'static str,
    id: &'static str,
    run: H,
) -> Operation {
    Operation::new(Method::GET, path, id, run)
}

pub(super) fn post<H: Handler<T, Arc<App>>, T: 'static>(
    path: &'static str,
    id: &'static str,
    run: H,
) -> Operation {
    Operation::new(Method::POST, path, id, run)
}

pub(super) fn patch<H: Handler<T, Arc<App>>, T: 'static>(
    path: &'static str,
    id: &'static str,
    run: H,
) -> Operation {
    Operation::new(Method::PATCH, path, id, run)
}

pub(super) fn put<H: Handler<T, Arc<App>>, T: 'static>(
    path: &'static str,
    id: &'static str,
    run: H,
) -> Operation {
    Operation::new(Method::PUT, path, id, run)
}

pub(super) fn delete<H: Handler<T, Arc<App>>, T: 'static>(
    path: &'static str,
    id: &'static str,
    run: H,
) -> Operation {
    Operation::new(Method::DELETE, path, id, run)
}
