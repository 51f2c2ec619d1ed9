//! What a person types: a secret that is not shown.

use std::io::IsTerminal;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::cli::failure::{Exit, Failure, Result};
use crate::cli::output::Output;

/// Bytes of a line at most: no secret is longer, and a file that was piped in by mistake is.
const MAX_LINE: usize = 4096;

/// The first line of stdin; at a terminal, after a question and unseen.
pub(super) fn secret(question: &str, output: &Output) -> Result<Zeroizing<String>> {
    let unseen = if std::io::stdin().is_terminal() {
        let unseen = Unseen::start().map_err(|cause| cannot_read(&cause))?;
        // only now: whoever answers a question is not seen any more
        output.prompt(question);
        Some(unseen)
    } else {
        None
    };
    let line = read_line().map_err(|cause| cannot_read(&cause));
    if unseen.is_some() {
        // the line end that nobody saw
        output.note("");
    }
    let line = line?;
    let text = line.trim();
    if text.is_empty() || text.len() > MAX_LINE {
        return Err(Failure::usage("there is no secret on stdin")
            .hint("`tenmint login --url URL < FILE`, or type it when asked"));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

fn read_line() -> std::io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::with_capacity(MAX_LINE));
    std::io::BufRead::read_line(
        &mut std::io::Read::take(std::io::stdin().lock(), MAX_LINE as u64 + 2),
        &mut line,
    )?;
    Ok(line)
}

fn cannot_read(cause: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("the secret cannot be read: {cause}"))
}

/// A terminal that shows nothing of what is typed, until the end of this.
struct Unseen(Termios);

impl Unseen {
    fn start() -> std::io::Result<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut unseen = before.clone();
        unseen.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &unseen)?;
        Ok(Self(before))
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
