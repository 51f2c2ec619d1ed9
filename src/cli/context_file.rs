//! The file of contexts: servers by name, and the API key for each. Nobody but its owner can read
//! it, and it is never half written.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{DirBuilder, File, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// A key in the clear, on its way between the file and a request.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ClearKey(pub(super) Zeroizing<String>);

impl fmt::Debug for ClearKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClearKey(..)")
    }
}

impl Serialize for ClearKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ClearKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// A server, and the API key for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Context {
    pub(super) url: String,
    /// Left out where the keyring keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) api_key: Option<ClearKey>,
}

/// All contexts, and the one that holds where nobody names one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contexts {
    pub(super) current: Option<String>,
    pub(super) contexts: BTreeMap<String, Context>,
}

/// Where the contexts are.
#[derive(Debug, Clone)]
pub(super) struct ContextFile(PathBuf);

impl ContextFile {
    /// `$XDG_CONFIG_HOME/tenmint/contexts.json`, or the same below `~/.config`.
    pub(super) fn locate() -> Result<Self> {
        let path = |name| std::env::var_os(name).map(PathBuf::from);
        // the specification says to ignore a relative one
        let config = path("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
        let home = path("HOME").filter(|path| path.is_absolute());
        let config = config
            .or_else(|| home.map(|home| home.join(".config")))
            .ok_or_else(|| Error::Setup("there is no place for contexts: set `HOME`".to_owned()))?;
        Ok(Self(config.join("tenmint").join("contexts.json")))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// What is in it; nothing where there is none yet.
    pub(super) fn load(&self) -> Result<Contexts> {
        let mut file = match File::open(&self.0) {
            Ok(file) => file,
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Contexts::default()),
            Err(cause) => return Err(self.failed("read", &cause)),
        };
        let mode = file.metadata().map_err(|cause| self.failed("read", &cause))?.mode();
        if mode & 0o077 != 0 {
            return Err(Error::Setup(format!(
                "others can read the API keys in `{0}`\nhint: `chmod 600 {0}`, and renew the keys \
                 if somebody may have",
                self.0.display()
            )));
        }
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text).map_err(|cause| self.failed("read", &cause))?;
        // not the words of the reader: they would quote a key
        serde_json::from_str(&text).map_err(|cause| {
            let (line, column) = (cause.line(), cause.column());
            self.failed("read", &format!("line {line}, column {column} is not as it must be"))
        })
    }

    /// Takes a file that others can read back from them, and says whether it was one. What they read
    /// before they have.
    pub(super) fn make_private(&self) -> Result<bool> {
        let file = match File::open(&self.0) {
            Ok(file) => file,
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(false),
            Err(cause) => return Err(self.failed("read", &cause)),
        };
        let metadata = file.metadata().map_err(|cause| self.failed("read", &cause))?;
        if metadata.mode() & 0o077 == 0 {
            return Ok(false);
        }
        let private = Permissions::from_mode(0o600);
        file.set_permissions(private).map_err(|cause| self.failed("written", &cause))?;
        Ok(true)
    }

    /// Changes what is in it, one process at a time.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut Contexts) -> Result<T>) -> Result<T> {
        let directory = self.0.parent().unwrap_or(Path::new("."));
        let prepared = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        prepared.map_err(|cause| self.failed("written", &cause))?;
        let lock = private(&directory.join("contexts.lock"), false).and_then(|file| {
            file.lock()?;
            Ok(file)
        });
        let lock = lock.map_err(|cause| self.failed("written", &cause))?;
        let mut contexts = self.load()?;
        let result = change(&mut contexts)?;
        self.replace(&contexts).map_err(|cause| self.failed("written", &cause))?;
        drop(lock);
        Ok(result)
    }

    /// A new file in the place of the old one: whoever reads meanwhile reads one of the two.
    fn replace(&self, contexts: &Contexts) -> std::io::Result<()> {
        let text = Zeroizing::new(serde_json::to_string_pretty(contexts)? + "\n");
        let unfinished = self.0.with_extension("json.new");
        // one that a crash left behind; nobody else writes it, under the lock
        let _ = std::fs::remove_file(&unfinished);
        let mut file = private(&unfinished, true)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&unfinished, &self.0)
    }

    fn failed(&self, what: &str, cause: &dyn fmt::Display) -> Error {
        Error::Setup(format!("the contexts `{}` cannot be {what}: {cause}", self.0.display()))
    }
}

/// A file that its owner alone can read.
fn private(path: &Path, new: bool) -> std::io::Result<File> {
    let mut options = File::options();
    options.write(true).create(true).create_new(new).truncate(false).mode(0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file() -> (tempfile::TempDir, ContextFile) {
        let directory = tempfile::tempdir().unwrap();
        let file = ContextFile(directory.path().join("config/tenmint/contexts.json"));
        (directory, file)
    }

    fn add(file: &ContextFile, name: &str) -> Result<()> {
        let api_key = Some(ClearKey(Zeroizing::new("tm_secret".to_owned())));
        let context = Context { url: "http://x".to_owned(), api_key };
        file.update(|contexts| {
            contexts.contexts.insert(name.to_owned(), context);
            Ok(())
        })
    }

    #[test]
    fn what_is_written_is_private_and_comes_back() {
        let (_directory, file) = file();
        assert_eq!(file.load().unwrap(), Contexts::default());
        add(&file, "a").unwrap();
        add(&file, "b").unwrap();
        let contexts = file.load().unwrap();
        assert_eq!(contexts.contexts.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert!(!format!("{contexts:?}").contains("tm_secret"));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(file.path()), 0o600);
        assert_eq!(mode(file.path().parent().unwrap()), 0o700);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_fix() {
        let (_directory, file) = file();
        add(&file, "a").unwrap();
        for mode in [0o640, 0o604, 0o622] {
            std::fs::set_permissions(file.path(), PermissionsExt::from_mode(mode)).unwrap();
            let refused = add(&file, "b").unwrap_err().to_string();
            assert!(refused.contains("chmod 600"), "{mode:o}: {refused}");
        }
    }

    #[test]
    fn a_broken_file_is_told_without_what_is_in_it() {
        let (_directory, file) = file();
        add(&file, "a").unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        std::fs::write(file.path(), text.replace("\"url\"", "\"tm_x\"")).unwrap();
        let refused = file.load().unwrap_err().to_string();
        assert!(refused.contains("line ") && !refused.contains("tm_"), "{refused}");
    }

    #[test]
    fn of_many_that_write_at_once_none_is_lost() {
        let (_directory, file) = file();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let file = &file;
                scope.spawn(move || add(file, &number.to_string()).unwrap());
            }
        });
        assert_eq!(file.load().unwrap().contexts.len(), 8);
    }

    #[test]
    fn what_a_crash_left_behind_is_no_obstacle() {
        let (_directory, file) = file();
        add(&file, "a").unwrap();
        std::fs::write(file.path().with_extension("json.new"), "half").unwrap();
        add(&file, "b").unwrap();
        assert_eq!(file.load().unwrap().contexts.len(), 2);
    }
}
