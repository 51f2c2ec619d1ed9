//! JSON: a page as the server gives it, or an object a line.

use std::io::Write;

use serde_json::{Value, json};

use super::rows::{Rows, Sink};

/// One document of all items.
pub(super) struct JsonRows {
    sink: Sink,
    items: Vec<Value>,
}

impl JsonRows {
    pub(super) fn new(sink: Sink) -> Self {
        Self { sink, items: Vec::new() }
    }
}

impl Rows for JsonRows {
    fn add(&mut self, items: &[Value]) -> std::io::Result<()> {
        self.items.extend_from_slice(items);
        Ok(())
    }

    fn finish(mut self: Box<Self>, next_cursor: Option<&str>) -> std::io::Result<()> {
        let document = json!({"items": self.items, "next_cursor": next_cursor});
        writeln!(self.sink, "{}", pretty(&document))?;
        self.sink.finish()
    }
}

/// An item a line, as they come.
pub(super) struct JsonLines(pub(super) Sink);

impl Rows for JsonLines {
    fn add(&mut self, items: &[Value]) -> std::io::Result<()> {
        items.iter().try_for_each(|item| writeln!(self.0, "{}", unsteering(item.to_string())))
    }

    fn finish(self: Box<Self>, _next_cursor: Option<&str>) -> std::io::Result<()> {
        self.0.finish()
    }
}

/// JSON for a terminal and for scripts alike.
pub(super) fn pretty(value: &Value) -> String {
    unsteering(format!("{value:#}"))
}

/// JSON escapes the controls below a blank by itself; a terminal obeys those above `~` too. They
/// can stand in strings alone, so that an escape is right wherever one is.
fn unsteering(json: String) -> String {
    let above = |c: char| matches!(c, '\u{7f}'..='\u{9f}');
    if !json.contains(above) {
        return json;
    }
    let escaped =
        |c: char| if above(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    json.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_leaves_as_it_is_and_every_text_comes_back() {
        let value = json!({"name": "a\u{1b}b\u{7f}c\u{9b}d\u{e9}"});
        let text = pretty(&value);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
