//! From chunks of bytes to lines, wherever the chunks end. A line that is too long is passed over
//! and told, so that memory stays bounded whatever comes.

/// Bytes of a line at most, without its end.
pub(crate) const MAX_LINE_BYTES: usize = 16 * 1024;

/// What UTF-8 files of some editors begin with.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// One line of a file, without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Its number, from 1.
    pub(crate) number: u64,
    /// Its bytes; nothing where there are more than [`MAX_LINE_BYTES`].
    pub(crate) bytes: Option<Vec<u8>>,
}

/// Cuts a file into lines.
#[derive(Debug, Default)]
pub(crate) struct LineSplitter {
    /// The start of the line whose end has not come.
    begun: Vec<u8>,
    /// Lines that are over.
    done: u64,
    /// Whether the line is past what a line may have.
    too_long: bool,
}

impl LineSplitter {
    /// The next line that ends in these bytes, which are taken from their front. `None` once all of
    /// them are taken.
    pub(crate) fn next(&mut self, bytes: &mut &[u8]) -> Option<Line> {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.add(bytes);
            *bytes = &[];
            return None;
        };
        let (line, rest) = bytes.split_at(end);
        self.add(line);
        *bytes = rest.get(1..).unwrap_or_default();
        Some(self.end())
    }

    /// The last line, where it has no end.
    pub(crate) fn finish(mut self) -> Option<Line> {
        (!self.begun.is_empty() || self.too_long).then(|| self.end())
    }

    fn add(&mut self, bytes: &[u8]) {
        // a line may have a carriage return before its end, and the first one a byte order mark
        let most = MAX_LINE_BYTES + BYTE_ORDER_MARK.len() + 1;
        if self.begun.len() + bytes.len() > most {
            self.too_long = true;
            self.begun = Vec::new();
        }
        if !self.too_long {
            self.begun.extend_from_slice(bytes);
        }
    }

    fn end(&mut self) -> Line {
        self.done += 1;
        let bytes = std::mem::take(&mut self.begun);
        let too_long = std::mem::take(&mut self.too_long);
        let bare = bytes.strip_suffix(b"\r").unwrap_or(&bytes);
        let bare =
            if self.done == 1 { bare.strip_prefix(BYTE_ORDER_MARK) } else { None }.unwrap_or(bare);
        let fits = !too_long && bare.len() <= MAX_LINE_BYTES;
        Line { number: self.done, bytes: fits.then(|| bare.to_vec()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The lines of a file that comes in these chunks; `None` for one that is too long.
    fn lines<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> Vec<Option<String>> {
        let (mut splitter, mut found) = (LineSplitter::default(), Vec::new());
        for mut chunk in chunks {
            while let Some(line) = splitter.next(&mut chunk) {
                found.push(line);
            }
            assert!(chunk.is_empty());
        }
        found.extend(splitter.finish());
        let numbers: Vec<u64> = found.iter().map(|line| line.number).collect();
        assert_eq!(numbers, (1..=found.len() as u64).collect::<Vec<_>>());
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        found.into_iter().map(|line| line.bytes.map(text)).collect()
    }

    fn some(lines: &[&str]) -> Vec<Option<String>> {
        lines.iter().map(|line| Some((*line).to_owned())).collect()
    }

    #[test]
    fn a_line_ends_with_a_line_feed_and_the_last_one_may_go_without() {
        assert_eq!(lines([&b"a\r\n\nb"[..]]), some(&["a", "", "b"]));
        assert_eq!(lines([&b"a\nb\n"[..]]), some(&["a", "b"]));
        assert_eq!(lines([&b""[..]]), some(&[]));
        assert_eq!(lines([&b"\n"[..]]), some(&[""]));
    }

    #[test]
    fn a_byte_order_mark_belongs_to_no_line_but_only_at_the_start() {
        assert_eq!(lines([&b"\xEF"[..], b"\xBB\xBFa\n\xEF\xBB\xBFb"]), some(&["a", "\u{feff}b"]));
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_and_the_next_one_read() {
        let fits = "x".repeat(MAX_LINE_BYTES);
        let file = format!("\u{feff}{fits}\r\n{fits}y\n{}\nb\n{fits}{fits}", fits.repeat(3));
        let expected = [Some(fits), None, None, Some("b".to_owned()), None];
        assert_eq!(lines([file.as_bytes()]), expected);
        assert_eq!(lines(file.as_bytes().chunks(1_000)), expected);
    }

    #[test]
    fn what_never_ends_takes_no_memory() {
        let mut splitter = LineSplitter::default();
        for _ in 0..1_000 {
            assert_eq!(splitter.next(&mut [b'x'; 4_096].as_slice()), None);
            assert!(splitter.begun.capacity() <= 4 * MAX_LINE_BYTES);
        }
        assert_eq!(splitter.finish(), Some(Line { number: 1, bytes: None }));
    }

    proptest! {
        #[test]
        fn where_chunks_end_does_not_matter(
            file in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200),
            size in 1_usize..20,
        ) {
            let whole = lines([file.as_slice()]);
            prop_assert_eq!(&lines(file.chunks(size)), &whole);
            let ends = file.split(|byte| *byte == b'\n').count() - 1;
            let open = file.last().is_some_and(|byte| *byte != b'\n');
            prop_assert_eq!(whole.len(), ends + usize::from(open));
        }
    }
}
