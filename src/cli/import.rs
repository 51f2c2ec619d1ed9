//! `tenmint keys import`: a file goes up as it is read, and what became of each line comes down as it
//! is told. Neither is ever whole in memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::time::{Interval, interval};

use crate::cli::api::Request;
use crate::cli::failure::{Exit, Failure, Result};
use crate::cli::import_report::Report;
use crate::cli::output::{Output, has_person};
use crate::cli::session::Session;
use crate::http::client::{Body, BoxedError};

/// Bytes that are read and sent at once.
const CHUNK: usize = 64 * 1024;
/// Between two looks at how far it is.
const TICK: Duration = Duration::from_millis(100);
/// Looks without anything moving, until the server counts as gone: a minute.
const PATIENCE: u32 = 600;
/// Bytes of a line of the report at most.
const MAX_LINE: usize = 1024 * 1024;

/// Arguments of `tenmint keys import`.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// CSV with a line of column names, or JSON lines; `-` for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Store nothing unless every line is good
    #[arg(long)]
    all_or_nothing: bool,
    /// Store nothing, and tell what would become of each line
    #[arg(long)]
    dry_run: bool,
    /// A text of yours: the same import with the same text within 24 h is done once
    #[arg(long, value_name = "TEXT")]
    idempotency_key: Option<String>,
}

pub(super) async fn run(args: ImportArgs, session: &Session<'_>) -> Result<ExitCode> {
    let source = Source::open(&args.file).map_err(|cause| {
        let file = args.file.display();
        Failure::new(Exit::Failed, format!("the file `{file}` cannot be read: {cause}"))
    })?;
    let request = Request::post(&["keys", "import"])
        .query("atomic", args.all_or_nothing.then_some(true))
        .dry_run(args.dry_run)
        .once(args.idempotency_key);
    let mut watch = Watch::new(source.total, session.output);
    let media_type = source.media_type();
    let body = source.send_in_background(watch.sent.clone());
    session.say_request(&request);
    let answer = watch.wait_for(session.api.stream(&request, media_type, body)).await?;
    session.say_answer(answer.status(), answer.headers());
    let answer = succeeded(answer, session).await?;
    let report = read(answer, watch, session).await?;
    report.finish()
}

/// A refusal of all of it is one document.
async fn succeeded(answer: Response<Body>, session: &Session<'_>) -> Result<Response<Body>> {
    if answer.status().is_success() {
        return Ok(answer);
    }
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map_err(|cause| session.api.broken_off(&cause))?;
    Err(session.api.refusal(&head, &body.to_bytes()))
}

/// Takes the report line by line.
async fn read<'o>(
    answer: Response<Body>,
    mut watch: Watch<'o>,
    session: &Session<'o>,
) -> Result<Report<'o>> {
    let mut report = Report::new(session.output)?;
    let mut body = answer.into_body();
    let mut unfinished = Vec::new();
    while let Some(frame) = watch.wait_for(async { Ok(body.frame().await) }).await? {
        let frame = frame.map_err(|cause| session.api.broken_off(&cause))?;
        let Ok(data) = frame.into_data() else { continue };
        watch.received += data.len() as u64;
        unfinished.extend_from_slice(&data);
        let whole = unfinished.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = unfinished.drain(..whole).collect();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line = parsed(line, session)?;
            line.get("line").and_then(Value::as_u64).iter().for_each(|at| watch.sent.told_of(*at));
            report.add(&line)?;
        }
        if unfinished.len() > MAX_LINE {
            return Err(session.api.broken_off(&"a line of the report is too long"));
        }
        watch.tell(report.words());
    }
    if !unfinished.is_empty() {
        report.add(&parsed(&unfinished, session)?)?;
    }
    watch.clear();
    Ok(report)
}

fn parsed(line: &[u8], session: &Session<'_>) -> Result<Value> {
    serde_json::from_slice(line).map_err(|_| session.api.broken_off(&"a line is no JSON"))
}

/// What is imported.
struct Source {
    reader: Box<dyn Read + Send>,
    /// Its bytes, where that is known.
    total: Option<u64>,
    /// What was read to see what it is.
    start: Bytes,
}

impl Source {
    fn open(path: &PathBuf) -> std::io::Result<Self> {
        let (mut reader, total): (Box<dyn Read + Send>, _) = if path.as_os_str() == "-" {
            (Box::new(std::io::stdin()), None)
        } else {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            (Box::new(file), metadata.is_file().then_some(metadata.len()))
        };
        let start = read_chunk(&mut *reader)?;
        Ok(Self { reader, total, start })
    }

    /// JSON lines begin with a brace; a line of column names does not.
    fn media_type(&self) -> &'static str {
        let start = self.start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.start);
        match start.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => "application/x-ndjson",
            _ => "text/csv",
        }
    }

    /// Reads on in a thread of its own, since reading can wait; counts what was taken.
    fn send_in_background(self, sent: Arc<Sent>) -> Body {
        let (sender, body) = Channel::<Bytes, BoxedError>::new(2);
        let runtime = Handle::current();
        std::thread::spawn(move || self.send(sender, &sent, &runtime));
        body.boxed_unsync()
    }

    fn send(mut self, mut sender: Sender<Bytes, BoxedError>, sent: &Sent, runtime: &Handle) {
        let mut chunk: std::io::Result<Bytes> = Ok(std::mem::take(&mut self.start));
        loop {
            match chunk {
                Ok(bytes) if bytes.is_empty() => return,
                Ok(bytes) => {
                    let (length, lines) = (bytes.len(), count_lines(&bytes));
                    if runtime.block_on(sender.send_data(bytes)).is_err() {
                        // the server has answered already, and takes no more
                        return;
                    }
                    sent.add(length as u64, lines);
                }
                // half a file must not look like a whole one
                Err(cause) => return sender.abort(cause.into()),
            }
            chunk = read_chunk(&mut *self.reader);
        }
    }
}

fn read_chunk(reader: &mut dyn Read) -> std::io::Result<Bytes> {
    let mut chunk = Vec::with_capacity(CHUNK);
    reader.take(CHUNK as u64).read_to_end(&mut chunk)?;
    Ok(chunk.into())
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.split(|byte| *byte == b'\n').skip(1).count() as u64
}

/// How much of the file was sent, and how much of it the server has told of. What was sent waits in
/// many a buffer, so that only the second says how far the import is.
#[derive(Debug, Default)]
struct Sent {
    bytes: AtomicU64,
    /// The lines and bytes up to each chunk that the server has not told all of.
    chunks: Mutex<VecDeque<(u64, u64)>>,
    /// The lines that were sent.
    lines: AtomicU64,
    /// The bytes of the chunks that it has told all of.
    done: AtomicU64,
}

impl Sent {
    fn add(&self, bytes: u64, lines: u64) {
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let lines = self.lines.fetch_add(lines, Ordering::Relaxed) + lines;
        self.chunks.lock().push_back((lines, bytes));
    }

    /// The server has told of this line, and with it of all before.
    fn told_of(&self, line: u64) {
        let mut chunks = self.chunks.lock();
        while let Some((_, bytes)) = chunks.pop_front_if(|(lines, _)| *lines <= line) {
            self.done.store(bytes, Ordering::Relaxed);
        }
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

/// Looks every moment whether something moves, and shows a person how far it is.
struct Watch<'o> {
    output: &'o Output,
    has_person: bool,
    sent: Arc<Sent>,
    total: Option<u64>,
    received: u64,
    ticks: Interval,
    /// What had moved at the last look, and for how many looks it has not.
    moved: u64,
    still: u32,
    words: String,
}

impl<'o> Watch<'o> {
    fn new(total: Option<u64>, output: &'o Output) -> Self {
        Self {
            output,
            has_person: has_person(),
            sent: Arc::default(),
            total,
            received: 0,
            ticks: interval(TICK),
            moved: 0,
            still: 0,
            words: String::new(),
        }
    }

    /// Waits for something as long as anything moves.
    async fn wait_for<T>(&mut self, what: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::pin!(what);
        loop {
            tokio::select! {
                biased;
                done = &mut what => return done,
                _ = self.ticks.tick() => self.look()?,
            }
        }
    }

    fn look(&mut self) -> Result<()> {
        let moved = self.sent.bytes() + self.received;
        self.still = if moved == self.moved { self.still + 1 } else { 0 };
        self.moved = moved;
        if self.still > PATIENCE {
            let message = "nothing has moved for a minute; what was imported is not known";
            return Err(Failure::new(Exit::Unavailable, message)
                .hint("import the file again: a line that is there already changes nothing"));
        }
        if self.has_person {
            self.output.prompt(&format!("{}  {}", bar(self.sent.done(), self.total), self.words));
        }
        Ok(())
    }

    fn tell(&mut self, words: String) {
        self.words = words;
    }

    fn clear(&self) {
        if self.has_person {
            self.output.prompt("");
        }
    }
}

/// Cells of the bar.
const CELLS: u64 = 30;

fn bar(done: u64, total: Option<u64>) -> String {
    let Some(total) = total.filter(|total| *total > 0) else {
        return format!("{} KiB done", done / 1024);
    };
    let done = done.min(total);
    let full = usize::try_from(done * CELLS / total).unwrap_or_default();
    format!("[{:<30}] {:>3} %", "#".repeat(full), done * 100 / total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_full_as_the_file_is_done() {
        assert_eq!(bar(0, Some(10)), "[                              ]   0 %");
        assert_eq!(bar(5, Some(10)), "[###############               ]  50 %");
        assert_eq!(bar(11, Some(10)), "[##############################] 100 %");
        assert_eq!(bar(2048, None), "2 KiB done");
        assert_eq!(bar(0, Some(0)), "0 KiB done");
    }

    #[test]
    fn what_is_sent_is_done_once_the_server_has_told_of_it() {
        let sent = Sent::default();
        sent.add(100, 3);
        sent.add(50, 0);
        sent.add(70, 2);
        assert_eq!((sent.bytes(), sent.done()), (220, 0), "nothing was told yet");
        sent.told_of(2);
        assert_eq!(sent.done(), 0, "a chunk is done with its last line");
        sent.told_of(4);
        assert_eq!(sent.done(), 150);
        sent.told_of(6);
        assert_eq!(sent.done(), 220, "the last line may have no end");
        assert_eq!(count_lines(b"a\nb\n\nc"), 3);
    }

    #[test]
    fn json_lines_are_told_from_csv_by_their_start() {
        let media_type = |start: &'static [u8]| {
            let start = Bytes::from_static(start);
            Source { reader: Box::new(std::io::empty()), total: None, start }.media_type()
        };
        assert_eq!(media_type(b"\xef\xbb\xbf\n {\"name\":1}"), "application/x-ndjson");
        assert_eq!(media_type(b"name,digest\n"), "text/csv");
        assert_eq!(media_type(b""), "text/csv");
    }
}
