//! A fuzz target on a stable compiler: its corpus, bounded mutations of it from one seed, and, for
//! `TENMINT_FUZZ_SECONDS` where that is set, mutations from a seed that nobody chose.
//!
//! The tests of both packages include this file.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::panic::{catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// Feeds a target its corpus, and so many mutants of it.
pub(crate) fn replay(target: &str, mutations: usize, check: fn(&[u8])) {
    let corpus = corpus(target);
    assert!(corpus.len() >= 10, "the corpus of {target} is missing");
    for seed in &corpus {
        fed(target, seed, check);
    }
    let mut chance = Chance(0x0074_656e_6d69_6e74);
    for _ in 0..mutations {
        fed(target, &mutant(&corpus, &mut chance), check);
    }
    let asked = std::env::var("TENMINT_FUZZ_SECONDS").ok();
    let Some(seconds) = asked.and_then(|text| text.parse().ok()) else { return };
    let (began, mut chance) = (Instant::now(), Chance(RandomState::new().hash_one(0) | 1));
    while began.elapsed() < Duration::from_secs(seconds) {
        // several changes of one text, and not one of many
        let mut text = mutant(&corpus, &mut chance);
        for _ in 0..chance.below(8) {
            fed(target, &text, check);
            change(&mut text, &mut chance);
        }
    }
}

/// Feeds one text, which is told where it breaks something.
#[expect(clippy::print_stderr, reason = "a text that breaks something is told, to become a seed")]
fn fed(target: &str, text: &[u8], check: fn(&[u8])) {
    if let Err(broken) = catch_unwind(|| check(text)) {
        eprintln!("{target} breaks on b\"{}\"", text.escape_ascii());
        resume_unwind(broken);
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = package.ancestors().map(|folder| folder.join("fuzz/corpus").join(target));
    let folder = folders.take(2).find(|folder| folder.is_dir()).unwrap();
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    // the order of a folder is that of its file system, and a seed must mean the same everywhere
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// The start of one text and the end of another, with a few bytes changed.
fn mutant(corpus: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let (a, b) = (&corpus[chance.below(corpus.len())], &corpus[chance.below(corpus.len())]);
    let mut text = a.clone();
    if chance.below(3) == 0 {
        text.truncate(chance.below(a.len() + 1));
        text.extend(&b[chance.below(b.len() + 1)..]);
    }
    for _ in 0..chance.below(4) {
        change(&mut text, chance);
    }
    text
}

/// Another byte at one place, one more or one less.
fn change(text: &mut Vec<u8>, chance: &mut Chance) {
    const BYTES: &[u8] = b"*?/:% .\"{}[],01aZ-_\n\\\xff&=+;\0\r";
    let at = chance.below(text.len() + 1);
    let byte = BYTES[chance.below(BYTES.len())];
    match chance.below(3) {
        0 => text.insert(at, byte),
        1 if at < text.len() => text[at] = byte,
        _ if at < text.len() => drop(text.remove(at)),
        _ => {}
    }
}

/// A xorshift generator: small, seeded, and the same on every machine.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}
