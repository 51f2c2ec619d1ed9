//! The files for deployments.
