//! The fuzz targets on a stable compiler: their corpus, and bounded mutations of it from one seed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so"
)]

#[path = "fuzz/scopes.rs"]
mod scopes;
#[path = "fuzz/tokens.rs"]
mod tokens;

use std::fs;
use std::path::Path;

#[test]
fn scopes_hold_against_their_oracle() {
    replay("scopes", 20_000, scopes::check);
}

#[test]
fn tokens_hold_against_their_oracle() {
    replay("tokens", 10_000, tokens::check);
}

fn replay(target: &str, mutations: usize, check: fn(&[u8])) {
    let corpus = corpus(target);
    assert!(corpus.len() >= 10, "the corpus of {target} is missing");
    for seed in &corpus {
        check(seed);
    }
    let mut chance = Chance(0x0074_656e_6d69_6e74);
    for _ in 0..mutations {
        check(&mutant(&corpus, &mut chance));
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
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
        let at = chance.below(text.len() + 1);
        let byte = b"*?/:% .\"{}[],01aZ-_\n\\\xff"[chance.below(22)];
        match chance.below(3) {
            0 => text.insert(at, byte),
            1 if at < text.len() => text[at] = byte,
            _ if at < text.len() => drop(text.remove(at)),
            _ => {}
        }
    }
    text
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
