//! Where items go, page by page, in whatever form; and the file or stdout below it.

use std::fs::File;
use std::io::{BufWriter, Stdout, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Takes items as they come and writes them in one form.
pub(in crate::cli) trait Rows {
    /// Takes some items.
    fn add(&mut self, items: &[Value]) -> std::io::Result<()>;
    /// Writes what is left. The cursor says where a list goes on that ends early.
    fn finish(self: Box<Self>, next_cursor: Option<&str>) -> std::io::Result<()>;
}

/// Stdout, or a file that has its name once it is whole.
pub(super) enum Sink {
    Stdout(BufWriter<Stdout>),
    File(Box<Unfinished>),
}

/// A file under another name; it leaves nothing behind where it is given up.
pub(super) struct Unfinished {
    writer: BufWriter<File>,
    here: PathBuf,
    path: PathBuf,
}

impl Sink {
    /// A private file is one that others cannot read: it holds a secret.
    pub(super) fn open(file: Option<&Path>, private: bool) -> std::io::Result<Self> {
        match file {
            None => Ok(Self::Stdout(BufWriter::new(std::io::stdout()))),
            Some(path) => Ok(Self::File(Box::new(Unfinished::create(path, private)?))),
        }
    }

    pub(super) fn finish(self) -> std::io::Result<()> {
        match self {
            Self::Stdout(mut stdout) => stdout.flush(),
            Self::File(mut file) => {
                file.writer.flush()?;
                std::fs::rename(&file.here, &file.path)
            }
        }
    }
}

impl Unfinished {
    fn create(path: &Path, private: bool) -> std::io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;

        let mut here = path.as_os_str().to_owned();
        here.push(format!(".{}.new", std::process::id()));
        if path.is_dir() {
            return Err(std::io::ErrorKind::IsADirectory.into());
        }
        let mode = if private { 0o600 } else { 0o666 };
        let file = File::options().write(true).create_new(true).mode(mode).open(&here)?;
        Ok(Self { writer: BufWriter::new(file), here: here.into(), path: path.to_owned() })
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // a finished one has its other name by now
        let _ = std::fs::remove_file(&self.here);
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::File(file) => file.writer.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::File(file) => file.writer.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_name_once_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.csv");
        let names = || std::fs::read_dir(directory.path()).unwrap().count();
        let mut given_up = Sink::open(Some(&path), false).unwrap();
        given_up.write_all(b"half").unwrap();
        assert!(!path.exists());
        drop(given_up);
        assert_eq!(names(), 0, "nothing stays of it");
        let mut whole = Sink::open(Some(&path), true).unwrap();
        whole.write_all(b"whole").unwrap();
        whole.finish().unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), names()), (b"whole".to_vec(), 1));
    }
}
