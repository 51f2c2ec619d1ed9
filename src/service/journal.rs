//! The journal of revocations: a file apart from the database, to which every node appends what ends for
//! ever, before a call that ended it is answered. A database that was restored is held to it.
//!
//! Whole lines are only ever added. Ids and keyed digests stand in it, and no secret. A revocation does not
//! fail with the disk of the journal, nor wait for one that hangs: what could not be written waits, is tried
//! again with each look at the database, and is counted for whoever watches the node.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::model::id::ApiKeyId;
use crate::model::journal::{Ended, JournalLine};
use crate::model::secret::SecretDigest;
use crate::model::signing_key::{Kid, SigningKey};
use crate::model::time::Timestamp;
use crate::store::private_file;

/// How long the disk is waited for. A revocation has to hold on every node within a second.
const PATIENCE: Duration = Duration::from_millis(300);

/// What a line ends in that was torn: more words than any has.
const TORN: &str = " torn torn torn";

/// The journal of a node.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    /// Whoever has lines to write waits here for the one who writes.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// How long the disk is waited for.
    patience: Duration,
    /// Whoever writes has taken too long, and is not back.
    hangs: AtomicBool,
    /// Never held while the disk is waited for: it may hang.
    state: Mutex<State>,
    /// Held by whoever writes, which is a thread that may wait.
    end: Mutex<End>,
}

#[derive(Debug)]
struct State {
    known: Known,
    /// Lines that are not known to be on the disk.
    pending: Vec<JournalLine>,
}

/// The file. Another process may append to it too, as one that is being replaced does.
#[derive(Debug)]
struct End {
    file: File,
    has_failed: bool,
}

/// What has ended, as far as the journal says.
#[derive(Debug, Default, Clone)]
pub(crate) struct Known {
    pub(crate) api_keys: HashSet<ApiKeyId>,
    /// The last moment of each replaced secret.
    pub(crate) secrets: HashMap<SecretDigest, Timestamp>,
    pub(crate) signing_keys: Vec<Kid>,
    /// The fingerprints of those.
    fingerprints: HashSet<String>,
    /// The highest revision of any line that is on the disk or waits for it.
    pub(crate) revision: i64,
}

impl Known {
    /// Takes one in. Says whether it is news.
    fn take(&mut self, line: &JournalLine) -> bool {
        let is_news = match &line.ended {
            None => line.revision > self.revision,
            Some(Ended::ApiKey(id)) => self.api_keys.insert(*id),
            Some(Ended::Secret(digest, end)) => {
                let known = self.secrets.get(digest).is_some_and(|known| known <= end);
                if !known {
                    self.secrets.insert(*digest, *end);
                }
                !known
            }
            Some(Ended::SigningKey(kid, fingerprint)) => {
                let is_known = self.signing_keys.contains(kid);
                if !is_known {
                    self.signing_keys.push(kid.clone());
                }
                let more = fingerprint.iter().any(|one| self.fingerprints.insert(one.clone()));
                !is_known || more
            }
        };
        if is_news {
            self.revision = self.revision.max(line.revision);
        }
        is_news
    }

    /// Whether a signing key was withdrawn, whatever it is called now.
    pub(crate) fn has_withdrawn(&self, key: &SigningKey) -> bool {
        self.signing_keys.contains(&key.kid) || self.fingerprints.contains(&key.fingerprint())
    }
}

impl Journal {
    /// Opens the journal, or begins it.
    ///
    /// # Errors
    /// [`Error::Setup`] where the file cannot be read or appended to.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let unusable = |cause: std::io::Error| {
            Error::Setup(format!(
                "the journal of revocations `{}` cannot be used: {cause}\n\
                 hint: set `revocation_journal` to a file that this node can append to, apart from the \
                 database",
                path.display()
            ))
        };
        let mut file = private_file().read(true).append(true).open(path).map_err(unusable)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(unusable)?;
        // a damaged byte spoils its line, and no other
        let text = String::from_utf8_lossy(&bytes);
        // what has no end was torn, however whole it looks: a moment that lacks digits is another one
        let (whole, torn) = text.split_at(text.rfind('\n').map_or(0, |end| end + 1));
        let (mut known, mut bad) = (Known::default(), usize::from(!torn.is_empty()));
        for line in whole.lines() {
            match line.parse() {
                Ok(line) => {
                    known.take(&line);
                    known.revision = known.revision.max(line.revision);
                }
                Err(_) => bad += 1,
            }
        }
        if bad > 0 {
            // a line that was torn by a crash was not answered yet, and is written again
            tracing::warn!(bad, path = %path.display(), "the journal of revocations has bad lines");
        }
        let state = State { known, pending: Vec::new() };
        Ok(Self {
            path: path.to_owned(),
            turn: Arc::default(),
            patience: PATIENCE,
            hangs: AtomicBool::new(false),
            state: Mutex::new(state),
            end: Mutex::new(End { file, has_failed: false }),
        })
    }

    /// What has ended.
    pub(crate) fn known(&self) -> Known {
        self.state.lock().known.clone()
    }

    /// Whether a signing key was withdrawn, whatever it is called now.
    pub(crate) fn has_withdrawn(&self, key: &SigningKey) -> bool {
        self.state.lock().known.has_withdrawn(key)
    }

    /// Whether a secret has ended.
    pub(crate) fn has_ended(&self, secret: &SecretDigest, now: Timestamp) -> bool {
        self.state.lock().known.secrets.get(secret).is_some_and(|end| *end <= now)
    }

    /// The highest revision that it has seen.
    pub(crate) fn revision(&self) -> i64 {
        self.state.lock().known.revision
    }

    /// How many lines are not known to be on the disk.
    pub(crate) fn waiting(&self) -> usize {
        self.state.lock().pending.len()
    }

    /// Appends what is news, and what could not be written before. A failure is logged when it begins.
    pub(crate) async fn note(self: &Arc<Self>, revision: i64, ended: Vec<Ended>) {
        let line = |ended| JournalLine { revision, ended: Some(ended) };
        self.write_down(ended.into_iter().map(line)).await;
    }

    /// Appends how far the database has come: one that comes from an older backup is known by that. Like
    /// [`Self::note`] where it is news.
    pub(crate) async fn note_seen(self: &Arc<Self>, revision: i64) {
        self.write_down([JournalLine { revision, ended: None }]).await;
    }

    async fn write_down(self: &Arc<Self>, lines: impl IntoIterator<Item = JournalLine>) {
        {
            let mut state = self.state.lock();
            for line in lines {
                if state.known.take(&line) {
                    state.pending.push(line);
                }
            }
            if state.pending.is_empty() {
                return;
            }
        }
        self.write_within_patience().await;
    }

    /// Has all that waits written, and goes on without where the disk takes too long: whoever notes an end
    /// is about to act on it, on this node too. What is in the hands of a disk that hangs, one thread at a
    /// time, is not waited for again until that is back.
    async fn write_within_patience(self: &Arc<Self>) {
        let written = async {
            let turn = self.turn.clone().lock_owned().await;
            let journal = self.clone();
            let written = tokio::task::spawn_blocking(move || {
                journal.write();
                drop(turn);
                journal.hangs.store(false, Ordering::Release);
            });
            drop(written.await);
        };
        // whoever hangs has the turn until it is back
        let hangs = self.hangs.load(Ordering::Acquire) && self.turn.try_lock().is_err();
        if hangs || timeout(self.patience, written).await.is_ok() {
            return;
        }
        if !self.hangs.swap(true, Ordering::AcqRel) {
            let path = self.path.display();
            tracing::error!(%path, "the disk of the journal of revocations does not answer");
        }
    }

    fn write(&self) {
        let mut end = self.end.lock();
        let lines: Vec<String> =
            self.state.lock().pending.iter().map(|line| format!("{line}\n")).collect();
        if lines.is_empty() {
            // whoever wrote before has written these too
            return;
        }
        match end.append(&lines.concat()) {
            Ok(()) => {
                end.has_failed = false;
                drop(self.state.lock().pending.drain(..lines.len()));
            }
            Err(cause) => {
                if !std::mem::replace(&mut end.has_failed, true) {
                    let path = self.path.display();
                    tracing::error!(%cause, %path, "the journal of revocations cannot be written");
                }
            }
        }
    }
}

impl End {
    /// Appends lines, durably, while no other process does.
    fn append(&self, lines: &str) -> std::io::Result<()> {
        match self.file.lock() {
            // a file system without locks is no reason to write nothing
            Err(cause) if cause.kind() != std::io::ErrorKind::Unsupported => return Err(cause),
            _ => {}
        }
        let written = self.append_alone(lines);
        // the lock of a file that cannot be let go of ends with the process
        let _ = self.file.unlock();
        written
    }

    /// What a try that failed has left is cut off, or ends as a line of its own that nobody takes for a whole one.
    fn append_alone(&self, lines: &str) -> std::io::Result<()> {
        let length = self.file.metadata()?.len();
        let mut last = [b'\n'];
        if let Some(place) = length.checked_sub(1) {
            self.file.read_exact_at(&mut last, place)?;
        }
        let text = if last == *b"\n" { lines.to_owned() } else { format!("{TORN}\n{lines}") };
        let written = (&self.file).write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        if written.is_err() {
            let _ = self.file.set_len(length);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A journal on a disk that is waited for, however slow it is.
    fn opened(path: &Path) -> Arc<Journal> {
        let journal = Journal::open(path).unwrap();
        Arc::new(Journal { patience: Duration::from_mins(1), ..journal })
    }

    fn id(number: u8) -> ApiKeyId {
        ApiKeyId::from_random([number; 16])
    }

    #[tokio::test]
    async fn what_was_noted_is_known_after_a_restart_and_written_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let journal = opened(&path);
        for revision in [3, 4] {
            journal.note(revision, vec![Ended::ApiKey(id(1)), Ended::ApiKey(id(2))]).await;
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
        let known = Journal::open(&path).unwrap().known();
        assert_eq!((known.api_keys.len(), known.revision), (2, 3));
    }

    #[tokio::test]
    async fn a_line_that_was_torn_costs_no_other_and_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let whole = JournalLine { revision: 7, ended: Some(Ended::ApiKey(id(1))) };
        let end = Timestamp::from_millis(1_800_000_000_000);
        let ended = Ended::Secret(SecretDigest::from_bytes([9; 32]), end);
        let torn = JournalLine { revision: 8, ended: Some(ended.clone()) }.to_string();
        // wherever it was torn; with its last digits gone, it would end at another moment
        for length in 0..=torn.len() {
            let mut text = b"6 api_key \xff\n".to_vec();
            text.extend_from_slice(format!("{whole}\n{}", &torn[..length]).as_bytes());
            std::fs::write(&path, text).unwrap();
            let journal = opened(&path);
            assert_eq!(journal.known().secrets, HashMap::new(), "{length}");
            journal.note(9, vec![Ended::ApiKey(id(2))]).await;
            let known = Journal::open(&path).unwrap().known();
            assert_eq!(known.api_keys, [id(1), id(2)].into(), "{length}");
            assert_eq!((known.revision, known.secrets.len()), (9, 0), "{length}");
            opened(&path).note(9, vec![ended.clone()]).await;
            let known = Journal::open(&path).unwrap().known();
            assert_eq!(
                known.secrets,
                [(SecretDigest::from_bytes([9; 32]), end)].into(),
                "{length}"
            );
        }
    }

    #[tokio::test]
    async fn how_far_the_database_has_come_is_noted_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let journal = opened(&path);
        journal.note(4, vec![Ended::ApiKey(id(1))]).await;
        for revision in [4, 5, 5, 3] {
            journal.note_seen(revision).await;
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
        assert_eq!(Journal::open(&path).unwrap().revision(), 5);
        // what is known already says nothing of the revision in which it is seen once more
        journal.note(9, vec![Ended::ApiKey(id(1))]).await;
        journal.note_seen(9).await;
        assert_eq!(Journal::open(&path).unwrap().revision(), 9);
    }

    #[tokio::test]
    async fn what_could_not_be_written_waits_and_is_written_with_the_next_try() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let journal = opened(&path);
        let read_only = File::open(&path).unwrap();
        let writable = std::mem::replace(&mut journal.end.lock().file, read_only);
        journal.note(3, vec![Ended::ApiKey(id(1))]).await;
        assert_eq!(journal.waiting(), 1);
        journal.end.lock().file = writable;
        journal.note(0, Vec::new()).await;
        assert_eq!(journal.waiting(), 0);
        assert_eq!(Journal::open(&path).unwrap().known().api_keys, [id(1)].into());
    }

    #[tokio::test]
    async fn a_disk_that_does_not_answer_is_waited_for_once_and_gets_all_lines_when_it_does() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let journal = Arc::new(Journal::open(&path).unwrap());
        let (release, released) = std::sync::mpsc::channel::<()>();
        let (holds, held) = std::sync::mpsc::channel();
        let disk = journal.clone();
        let hanging = std::thread::spawn(move || {
            let _end = disk.end.lock();
            holds.send(()).unwrap();
            let _ = released.recv();
        });
        held.recv().unwrap();
        for number in 1..=50 {
            journal.note(3, vec![Ended::ApiKey(id(number))]).await;
        }
        assert!(journal.hangs.load(Ordering::Acquire), "no one waits for it a second time");
        assert_eq!((journal.waiting(), journal.known().api_keys.len()), (50, 50));
        drop(release);
        hanging.join().unwrap();
        let back = async {
            while journal.hangs.load(Ordering::Acquire) {
                tokio::task::yield_now().await;
            }
        };
        back.await;
        journal.note(0, Vec::new()).await;
        assert_eq!(journal.waiting(), 0);
        assert_eq!(Journal::open(&path).unwrap().known().api_keys.len(), 50);
    }

    #[tokio::test]
    async fn a_disk_that_came_back_while_it_was_given_up_is_written_to_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let journal = opened(&path);
        // whoever wrote was back before it was said to hang
        journal.hangs.store(true, Ordering::Release);
        journal.note(3, vec![Ended::ApiKey(id(1))]).await;
        assert_eq!(journal.waiting(), 0);
        assert_eq!(Journal::open(&path).unwrap().known().api_keys, [id(1)].into());
    }

    #[tokio::test]
    async fn two_processes_append_to_one_journal_and_lose_nothing_of_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let [one, other] = [0, 1].map(|_| opened(&path));
        one.note(3, vec![Ended::ApiKey(id(1))]).await;
        other.note(4, vec![Ended::ApiKey(id(2))]).await;
        // what it tries and cannot write is cut off, and no more than that
        let read_only = File::open(&path).unwrap();
        let writable = std::mem::replace(&mut one.end.lock().file, read_only);
        one.note(5, vec![Ended::ApiKey(id(3))]).await;
        one.end.lock().file = writable;
        one.note(0, Vec::new()).await;
        let known = Journal::open(&path).unwrap().known();
        assert_eq!(known.api_keys, [id(1), id(2), id(3)].into());
    }

    #[test]
    fn a_place_that_cannot_be_written_is_told_at_the_start() {
        let refused = Journal::open(Path::new("/nowhere/at/all")).unwrap_err().to_string();
        assert!(refused.contains("hint: set `revocation_journal`"), "{refused}");
    }
}
