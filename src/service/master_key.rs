//! The master key: a file that wraps what is secret in the database.
//!
//! Whoever holds the database alone can sign nothing and look up nothing. Whoever holds both can
//! do all: keep their backups apart. While one key follows another, both are in the key directory, and the
//! one that seals is the one that sealed the pepper.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::RwLock;
use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::model::signing_key::Kid;
use crate::service::{random, sealing};
use crate::store::{create_private_directory, private_file};

/// The name of the file in the key directory.
const FILE_NAME: &str = "master.key";
/// The name of the key that follows.
const NEXT_NAME: &str = "master.key.next";
/// The name of the key that was before, for backups of that time.
const OLD_NAME: &str = "master.key.old";
/// More than any master key, so that a wrong file is not read whole.
const MAX_FILE_BYTES: u64 = 1024;

/// What a sealed text is. A text that was sealed as one thing does not open as another.
#[derive(Debug, Clone, Copy)]
pub enum Sealed<'a> {
    /// The pepper of the digests.
    Pepper,
    /// The private half of this signing key.
    SigningKey(&'a Kid),
}

impl fmt::Display for Sealed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pepper => f.write_str("tenmint/pepper"),
            Self::SigningKey(kid) => write!(f, "tenmint/signing-key/{kid}"),
        }
    }
}

/// The keys of a key directory, ready to seal and to open.
pub struct MasterKey {
    keys_dir: PathBuf,
    held: RwLock<Held>,
}

struct Held {
    /// All that open.
    keys: Vec<Arc<LessSafeKey>>,
    /// The one that seals.
    sealing: Arc<LessSafeKey>,
}

impl MasterKey {
    /// Where the key of a directory is.
    pub fn path_in(keys_dir: &Path) -> PathBuf {
        keys_dir.join(FILE_NAME)
    }

    /// Reads the key of a directory, or makes one where there is none.
    pub fn load_or_create(keys_dir: &Path) -> Result<Self> {
        create_private_directory(keys_dir)?;
        create_where_missing(keys_dir, &Self::path_in(keys_dir))?;
        Self::load(keys_dir)
    }

    /// Reads the keys of a directory. The one that is named so must be there; of those that follow it and
    /// were before it, what is there.
    ///
    /// # Errors
    /// [`Error::Setup`] where one is missing, readable by others, or no key.
    pub fn load(keys_dir: &Path) -> Result<Self> {
        let keys = read_keys(keys_dir)?;
        let sealing = keys.first().cloned().ok_or_else(|| Error::Broken("no key".to_owned()))?;
        Ok(Self { keys_dir: keys_dir.to_owned(), held: RwLock::new(Held { keys, sealing }) })
    }

    /// Makes the key that follows, where there is none yet.
    pub(crate) fn create_next(&self) -> Result<()> {
        let path = self.next_path();
        create_where_missing(&self.keys_dir, &path)?;
        read_key(&path).map(drop)
    }

    /// The key that follows, alone.
    ///
    /// # Errors
    /// [`Error::Setup`] where there is none: one that is made only now would be on no other node.
    pub(crate) fn load_next(&self) -> Result<Self> {
        let path = self.next_path();
        if !path.exists() {
            let hint = "hint: make it with `tenmint master-key new`, and copy it to every node";
            return Err(unusable(&path, format!("there is none\n{hint}")));
        }
        let key = Arc::new(read_key(&path)?);
        let held = Held { keys: vec![key.clone()], sealing: key };
        Ok(Self { keys_dir: self.keys_dir.clone(), held: RwLock::new(held) })
    }

    /// Where the key that follows is.
    pub(crate) fn next_path(&self) -> PathBuf {
        self.keys_dir.join(NEXT_NAME)
    }

    /// Calls the key that follows the master key, and the one of before the old one.
    pub(crate) fn settle(&self) -> Result<()> {
        let (path, old) = (Self::path_in(&self.keys_dir), self.keys_dir.join(OLD_NAME));
        let settle = || {
            // whenever it is cut short, a file has the name of the master key
            let copy = old.with_extension("new");
            std::fs::copy(&path, &copy)?;
            File::open(&copy)?.sync_all()?;
            std::fs::rename(&copy, &old)?;
            std::fs::rename(self.next_path(), &path)?;
            File::open(&self.keys_dir)?.sync_all()
        };
        settle().map_err(|cause| unusable(&path, cause))
    }

    /// Opens the pepper, and seals from now on with the key that sealed it.
    ///
    /// # Errors
    /// Like [`MasterKey::open`].
    pub fn adopt(&self, sealed_pepper: &str) -> Result<Zeroizing<Vec<u8>>> {
        let (pepper, key) = self.open_by_any(Sealed::Pepper, sealed_pepper)?;
        self.held.write().sealing = key;
        Ok(pepper)
    }

    /// Seals bytes: base64 of a random nonce, the cipher text and its tag.
    pub fn seal(&self, what: Sealed<'_>, bytes: &[u8]) -> Result<String> {
        let key = self.held.read().sealing.clone();
        Ok(STANDARD.encode(sealing::seal(&key, &what.to_string(), bytes)?))
    }

    /// Opens what was sealed. Where no key does, the directory is read again: another may have come.
    ///
    /// # Errors
    /// [`Error::Setup`] where it was sealed by another key, as something else, or was changed.
    pub fn open(&self, what: Sealed<'_>, sealed: &str) -> Result<Zeroizing<Vec<u8>>> {
        self.open_by_any(what, sealed).map(|(bytes, _)| bytes)
    }

    fn open_by_any(&self, what: Sealed<'_>, sealed: &str) -> Result<Opened> {
        let open = |keys: &[Arc<LessSafeKey>]| {
            let opened = keys.iter().map(|key| Some((open_by(key, what, sealed)?, key.clone())));
            opened.flatten().next()
        };
        let held = self.held.read().keys.clone();
        if let Some(opened) = open(&held) {
            return Ok(opened);
        }
        let read = read_keys(&self.keys_dir)?;
        let opened = open(&read).ok_or_else(|| {
            Error::Setup(format!(
                "the master key `{}` is not the one of this database\n\
                 hint: point --keys-dir to the key directory that `tenmint init` wrote",
                Self::path_in(&self.keys_dir).display()
            ))
        })?;
        self.held.write().keys = read;
        Ok(opened)
    }
}

/// What was sealed, and the key that opened it.
type Opened = (Zeroizing<Vec<u8>>, Arc<LessSafeKey>);

fn open_by(key: &LessSafeKey, what: Sealed<'_>, sealed: &str) -> Option<Zeroizing<Vec<u8>>> {
    sealing::open(key, &what.to_string(), &STANDARD.decode(sealed).ok()?)
}

fn read_keys(keys_dir: &Path) -> Result<Vec<Arc<LessSafeKey>>> {
    let mut keys = vec![Arc::new(read_key(&MasterKey::path_in(keys_dir))?)];
    for path in [NEXT_NAME, OLD_NAME].map(|name| keys_dir.join(name)) {
        if path.exists() {
            keys.push(Arc::new(read_key(&path)?));
        }
    }
    Ok(keys)
}

fn read_key(path: &Path) -> Result<LessSafeKey> {
    let file = File::open(path).map_err(|cause| unusable(path, cause))?;
    refuse_open_to_others(&file, path)?;
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(|cause| unusable(path, cause))?;
    let bytes = Zeroizing::new(STANDARD.decode(text.trim()).unwrap_or_default());
    let key = UnboundKey::new(&AES_256_GCM, &bytes)
        .map_err(|_| unusable(path, "it is not 32 bytes in base64"))?;
    Ok(LessSafeKey::new(key))
}

fn create_where_missing(keys_dir: &Path, path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    create_file(keys_dir, path).map_err(|cause| unusable(path, cause))
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", Self::path_in(&self.keys_dir).display())
    }
}

/// Writes a new key beside its place and links it there, so that the file is whole or not there at
/// all. Of two that do this at once the first one's key stands.
fn create_file(keys_dir: &Path, path: &Path) -> std::io::Result<()> {
    let bytes = random::<32>().map_err(std::io::Error::other)?;
    let text = Zeroizing::new(STANDARD.encode(Zeroizing::new(bytes)) + "\n");
    let fresh = keys_dir.join(format!("{FILE_NAME}.{}", std::process::id()));
    let mut file = private_file().truncate(true).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let linked = std::fs::hard_link(&fresh, path);
    std::fs::remove_file(&fresh)?;
    match linked {
        Err(cause) if cause.kind() != std::io::ErrorKind::AlreadyExists => Err(cause),
        // what it seals may be on another disk, and outlive a name that is not on this one yet
        _ => File::open(keys_dir)?.sync_all(),
    }
}

fn unusable(path: &Path, cause: impl fmt::Display) -> Error {
    Error::Setup(format!("the master key `{}` cannot be used: {cause}", path.display()))
}

#[cfg(unix)]
fn refuse_open_to_others(file: &File, path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let mode = file.metadata().map_err(|cause| unusable(path, cause))?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(unusable(
        path,
        format!(
            "others can read it (mode {:03o})\nhint: chmod 600 {}",
            mode & 0o777,
            path.display()
        ),
    ))
}

#[cfg(not(unix))]
fn refuse_open_to_others(_: &File, _: &Path) -> Result<()> {
    Ok(())
}
