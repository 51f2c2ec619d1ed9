//! The master key: a file that wraps what is secret in the database.
//!
//! Whoever holds the database alone can sign nothing and look up nothing. Whoever holds both can
//! do all: keep their backups apart.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::model::signing_key::Kid;
use crate::service::random;
use crate::store::{create_private_directory, private_file};

/// The name of the file in the key directory.
const FILE_NAME: &str = "master.key";
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

/// The key of a key directory, ready to seal and to open.
pub struct MasterKey {
    key: LessSafeKey,
    path: PathBuf,
}

impl MasterKey {
    /// Where the key of a directory is.
    pub fn path_in(keys_dir: &Path) -> PathBuf {
        keys_dir.join(FILE_NAME)
    }

    /// Reads the key of a directory, or makes one where there is none.
    pub fn load_or_create(keys_dir: &Path) -> Result<Self> {
        create_private_directory(keys_dir)?;
        let path = Self::path_in(keys_dir);
        if !path.exists() {
            create_file(keys_dir, &path).map_err(|cause| unusable(&path, cause))?;
        }
        Self::load(keys_dir)
    }

    /// Reads the key of a directory.
    ///
    /// # Errors
    /// [`Error::Setup`] where it is missing, readable by others, or no key.
    pub fn load(keys_dir: &Path) -> Result<Self> {
        let path = Self::path_in(keys_dir);
        let file = File::open(&path).map_err(|cause| unusable(&path, cause))?;
        refuse_open_to_others(&file, &path)?;
        let mut text = Zeroizing::new(String::new());
        file.take(MAX_FILE_BYTES)
            .read_to_string(&mut text)
            .map_err(|cause| unusable(&path, cause))?;
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).unwrap_or_default());
        let key = UnboundKey::new(&AES_256_GCM, &bytes)
            .map_err(|_| unusable(&path, "it is not 32 bytes in base64"))?;
        Ok(Self { key: LessSafeKey::new(key), path })
    }

    /// Seals bytes: base64 of a random nonce, the cipher text and its tag.
    pub fn seal(&self, what: Sealed<'_>, bytes: &[u8]) -> Result<String> {
        let nonce: [u8; NONCE_LEN] = random()?;
        // with room for the tag: a vector that grows leaves what it held behind
        let mut sealed = Vec::with_capacity(bytes.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(bytes);
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(what.to_string()),
                &mut sealed,
            )
            .map_err(|_| Error::Broken("a secret cannot be sealed".to_owned()))?;
        Ok(STANDARD.encode([nonce.as_slice(), &sealed].concat()))
    }

    /// Opens what was sealed.
    ///
    /// # Errors
    /// [`Error::Setup`] where it was sealed by another key, as something else, or was changed.
    pub fn open(&self, what: Sealed<'_>, sealed: &str) -> Result<Zeroizing<Vec<u8>>> {
        let other_key = || {
            Error::Setup(format!(
                "the master key `{}` is not the one of this database\n\
                 hint: point --keys-dir to the key directory that `tenmint init` wrote",
                self.path.display()
            ))
        };
        let sealed = STANDARD.decode(sealed).map_err(|_| other_key())?;
        let (nonce, cipher_text) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(other_key)?;
        let mut bytes = Zeroizing::new(cipher_text.to_vec());
        let length = self
            .key
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(what.to_string()),
                &mut bytes,
            )
            .map_err(|_| other_key())?
            .len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.path.display())
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
        _ => Ok(()),
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
