//! `tenmint whoami`: which key a command would use, and what it may do.

use std::process::ExitCode;

use crate::cli::api::Request;
use crate::cli::failure::Result;
use crate::cli::output::Column;
use crate::cli::session::Session;

static COLUMNS: [Column; 7] = [
    Column::text("api_key").titled("API_KEY"),
    Column::text("owner").titled("OWNER"),
    Column::text("organization").titled("ORGANIZATION"),
    Column::text("scopes").titled("SCOPES"),
    Column::text("audiences").titled("AUDIENCES").or("all"),
    Column::moment("expires_at").titled("EXPIRES").or("never"),
    Column::text("is_account_admin").titled("ACCOUNT_ADMIN"),
];

/// The request, which `tenmint login` makes too.
pub(super) fn request() -> Request {
    Request::get(&["whoami"])
}

pub(super) async fn run(session: &Session<'_>) -> Result<ExitCode> {
    session.show(request(), &COLUMNS).await
}
