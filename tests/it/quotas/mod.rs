//! Quotas: never one request more than the limit in any window, on one node and on several.

mod in_memory;
mod over_a_database;
