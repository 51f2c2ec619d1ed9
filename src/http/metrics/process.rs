//! The process, as Linux tells of it in `/proc`, under the names that every exporter gives these. Where
//! there is no `/proc` they are left out.

use crate::http::metrics::text::Page;

/// Ticks a second in which Linux tells processor time, on every machine that this runs on.
const TICKS: f64 = 100.0;

/// Tells what is known.
pub(super) fn tell(page: &mut Page) {
    let stat = read("stat");
    // the name of the program, in parentheses, may hold anything
    let fields: Vec<f64> = stat.rsplit(") ").next().map(numbers).unwrap_or_default();
    let field = |number: usize| fields.get(number).copied();
    let cpu = field(11).zip(field(12)).map(|(user, system)| (user + system) / TICKS);
    counter(page, "process_cpu_seconds_total", "processor time, user and system", cpu);
    let help = "when the process started, in seconds since 1970";
    let started = field(19).zip(booted_at()).map(|(ticks, booted)| booted + ticks / TICKS);
    gauge(page, "process_start_time_seconds", help, started);
    gauge(page, "process_threads", "threads", field(17));
    let status = read("status");
    let kilobytes = |name: &str| Some(number_behind(&status, name)? * 1024.0);
    gauge(page, "process_resident_memory_bytes", "memory that is in use", kilobytes("VmRSS:"));
    gauge(page, "process_virtual_memory_bytes", "memory that is addressed", kilobytes("VmSize:"));
    gauge(page, "process_open_fds", "open files, connections among them", open_files());
    let most = number_behind(&read("limits"), "Max open files");
    gauge(page, "process_max_fds", "open files that there may be", most);
}

fn gauge(page: &mut Page, name: &'static str, help: &str, value: Option<f64>) {
    if let Some(value) = value {
        page.gauge(name, help, value);
    }
}

fn counter(page: &mut Page, name: &'static str, help: &str, value: Option<f64>) {
    if let Some(value) = value {
        page.counter(name, help, value);
    }
}

fn read(name: &str) -> String {
    std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default()
}

/// The words that stand in a row; what is no number counts as 0, so that each has its place.
fn numbers(text: &str) -> Vec<f64> {
    text.split_whitespace().map(|word| word.parse().unwrap_or_default()).collect()
}

/// The number behind a name at the start of a line.
fn number_behind(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn booted_at() -> Option<f64> {
    number_behind(&std::fs::read_to_string("/proc/stat").ok()?, "btime")
}

fn open_files() -> Option<f64> {
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count();
    // the look itself opens one
    u32::try_from(count.saturating_sub(1)).ok().map(f64::from)
}
