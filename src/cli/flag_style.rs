//! The flag style of `tenmint keys`: `keys ID --rotate` for `keys rotate ID`. The arguments are
//! rewritten before they are parsed, so that there is one parser and one help.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};

use crate::cli::failure::{Failure, Result};

/// The command whose actions may be flags.
const NOUN: &str = "keys";
/// The actions, each a flag as well.
const ACTIONS: [&str; 12] = [
    "list",
    "show",
    "create",
    "create-service",
    "edit",
    "rotate",
    "refresh",
    "revoke",
    "delete",
    "ip-filter",
    "quota",
    "import",
];

/// The arguments in the style of subcommands. Those that are in it already stay as they are.
pub(super) fn rewritten(
    arguments: Vec<OsString>,
    program: impl FnOnce() -> Command,
) -> Result<Vec<OsString>> {
    let Some(at) = place_of_noun(&arguments) else { return Ok(arguments) };
    let program = program();
    let Some(noun) = program.find_subcommand(NOUN) else { return Ok(arguments) };
    let (head, tail) = arguments.split_at(at + 1);
    let asked = TailWords::read(tail, noun, &options(&program, noun));
    let action = match (asked.actions.iter().collect::<Vec<_>>().as_slice(), asked.first.as_deref())
    {
        (_, Some(word)) if word == "help" || noun.find_subcommand(word).is_some() => {
            return Ok(arguments);
        }
        ([], _) if asked.help => return Ok(arguments),
        ([], None) => "list",
        ([], Some(word)) if word.starts_with("key_") => "show",
        // clap says what it might have meant
        ([], Some(_)) => return Ok(arguments),
        ([action], _) => action,
        (several, _) => return Err(too_many(several)),
    };
    let rest = tail.iter().filter_map(|argument| without_action(argument, action));
    Ok(head.iter().cloned().chain([action.into()]).chain(rest).collect())
}

/// The same program where the noun has the actions as flags, and what they take: for completions.
pub(super) fn with_action_flags(program: Command) -> Command {
    program.mut_subcommand(NOUN, |noun| {
        let actions: Vec<Command> = noun.get_subcommands().cloned().collect();
        let flag = |name: &'static str| {
            let action = actions.iter().find(|action| action.get_name() == name);
            let about = action.and_then(Command::get_about).cloned().unwrap_or_default();
            Arg::new(name).long(name).action(ArgAction::SetTrue).help(about)
        };
        let mut flags: Vec<Arg> = ACTIONS.into_iter().map(flag).collect();
        for option in actions.iter().flat_map(Command::get_arguments) {
            let is_new = flags.iter().all(|flag| {
                flag.get_id() != option.get_id() && flag.get_long() != option.get_long()
            });
            if is_new && !option.is_positional() {
                // one letter may be another option in another action
                flags.push(option.clone().required(false).short(None));
            }
        }
        noun.args(flags)
    })
}

fn too_many(actions: &[&String]) -> Failure {
    let flags: Vec<String> = actions.iter().map(|action| format!("`--{action}`")).collect();
    Failure::usage(format!("one action at a time, and not {} together", flags.join(" and ")))
}

/// Where the noun stands: first, but for options with their values.
fn place_of_noun(arguments: &[OsString]) -> Option<usize> {
    let mut at = 1;
    loop {
        match arguments.get(at)?.to_str()? {
            NOUN => return Some(at),
            "-o" | "--output" => at += 2,
            option if option.starts_with('-') => at += 1,
            _ => return None,
        }
    }
}

/// What stands behind the noun.
#[derive(Default)]
struct TailWords {
    /// The action flags, each once.
    actions: BTreeSet<String>,
    /// The first word that is no option and no value of one.
    first: Option<String>,
    help: bool,
}

impl TailWords {
    fn read(tail: &[OsString], noun: &Command, options: &[&Arg]) -> Self {
        let mut asked = Self::default();
        let mut words = tail.iter().map(|word| word.to_string_lossy());
        while let Some(word) = words.next() {
            if word == "--" {
                asked.first = asked.first.or_else(|| words.next().map(Into::into));
                break;
            }
            let action = word.strip_prefix("--").map(|flag| flag.split('=').next().unwrap_or(flag));
            if let Some(action) = action.filter(|action| noun.find_subcommand(action).is_some()) {
                asked.actions.insert(action.to_owned());
            } else if matches!(&*word, "-h" | "--help") {
                asked.help = true;
            } else if takes_next(&word, options) {
                words.next();
            } else if !word.starts_with('-') || word == "-" {
                asked.first.get_or_insert_with(|| word.into_owned());
            }
        }
        asked
    }
}

/// Whether an option takes the word behind it, in any of the actions: an option is the same in all.
fn takes_next(word: &str, options: &[&Arg]) -> bool {
    let takes = |is_it: &dyn Fn(&Arg) -> bool| options.iter().any(|option| is_it(option));
    if let Some(long) = word.strip_prefix("--") {
        let is_long = |option: &Arg| {
            let names = option.get_long_and_visible_aliases();
            names.is_some_and(|names| names.contains(&long))
        };
        return takes(&is_long);
    }
    let Some(shorts) = word.strip_prefix('-') else { return false };
    // of `-vl` the value is behind, of `-l5` it is there already
    let place = shorts.find(|c| takes(&|option: &Arg| option.get_short() == Some(c)));
    place.is_some_and(|place| place + 1 == shorts.len())
}

/// The options that take a value.
fn options<'c>(program: &'c Command, noun: &'c Command) -> Vec<&'c Arg> {
    let actions = noun.get_subcommands().flat_map(Command::get_arguments);
    let all = program.get_arguments().chain(noun.get_arguments()).chain(actions);
    all.filter(|option| matches!(option.get_action(), ArgAction::Set | ArgAction::Append)).collect()
}

/// An argument behind the action; of `--import=FILE` the file.
fn without_action(argument: &OsString, action: &str) -> Option<OsString> {
    let flag = argument.to_str().and_then(|text| text.strip_prefix("--")?.strip_prefix(action));
    match flag {
        Some("") => None,
        Some(value) if value.starts_with('=') => Some(value.trim_start_matches('=').into()),
        _ => Some(argument.clone()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn program() -> Command {
        crate::cli::Cli::command()
    }

    /// The rewritten line, or what is wrong with it.
    fn line(typed: &str) -> String {
        let arguments = typed.split(' ').map(OsString::from).collect();
        match rewritten(arguments, program) {
            Ok(arguments) => {
                let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
                words.join(" ")
            }
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn an_action_that_is_a_flag_becomes_a_subcommand() {
        for (typed, rewritten) in [
            ("tenmint keys", "tenmint keys list"),
            ("tenmint keys -l 5 -o json", "tenmint keys list -l 5 -o json"),
            ("tenmint keys key_1", "tenmint keys show key_1"),
            ("tenmint keys --show key_1", "tenmint keys show key_1"),
            (
                "tenmint keys --create --name x --scopes a,b",
                "tenmint keys create --name x --scopes a,b",
            ),
            ("tenmint keys --name x --create", "tenmint keys create --name x"),
            ("tenmint keys key_1 --rotate", "tenmint keys rotate key_1"),
            (
                "tenmint keys key_1 --rotate --grace-period-seconds 60",
                "tenmint keys rotate key_1 --grace-period-seconds 60",
            ),
            ("tenmint keys key_1 --refresh", "tenmint keys refresh key_1"),
            ("tenmint keys key_1 --revoke -f", "tenmint keys revoke key_1 -f"),
            ("tenmint keys key_1 --delete --force", "tenmint keys delete key_1 --force"),
            ("tenmint keys --delete key_1", "tenmint keys delete key_1"),
            (
                "tenmint keys key_1 --ip-filter --allow 10.0.0.1 --block none",
                "tenmint keys ip-filter key_1 --allow 10.0.0.1 --block none",
            ),
            (
                "tenmint keys key_1 --quota --rpm 5 --window 1",
                "tenmint keys quota key_1 --rpm 5 --window 1",
            ),
            ("tenmint keys --import FILE", "tenmint keys import FILE"),
            ("tenmint keys --import=FILE", "tenmint keys import FILE"),
            ("tenmint keys --create-service --name x", "tenmint keys create-service --name x"),
            (
                "tenmint keys --create-service-key --name x",
                "tenmint keys create-service-key --name x",
            ),
            ("tenmint keys --create --help", "tenmint keys create --help"),
            ("tenmint -o json keys key_1", "tenmint -o json keys show key_1"),
            ("tenmint -ojson keys", "tenmint -ojson keys list"),
            ("tenmint --output=json keys", "tenmint --output=json keys list"),
            (
                "tenmint keys --url http://x key_1 --rotate",
                "tenmint keys rotate --url http://x key_1",
            ),
            ("tenmint keys --context list", "tenmint keys list --context list"),
            ("tenmint keys -vl 5", "tenmint keys list -vl 5"),
            ("tenmint keys -l5", "tenmint keys list -l5"),
            ("tenmint keys -o json key_1", "tenmint keys show -o json key_1"),
            ("tenmint keys -nlist key_1", "tenmint keys show -nlist key_1"),
            ("tenmint keys --after key_1", "tenmint keys list --after key_1"),
            ("tenmint keys key_1 --rotate --rotate", "tenmint keys rotate key_1"),
        ] {
            assert_eq!(line(typed), rewritten);
        }
    }

    #[test]
    fn what_is_a_subcommand_already_or_none_of_it_stays() {
        for typed in [
            "tenmint",
            "tenmint keys list",
            "tenmint keys -v list",
            "tenmint keys --url http://x create --name list",
            "tenmint keys create-service-key --name x",
            "tenmint keys help create",
            "tenmint keys --help",
            "tenmint keys -h",
            "tenmint keys lst",
            "tenmint serve --dev",
            "tenmint token keys --rotate",
            "tenmint -o",
        ] {
            assert_eq!(line(typed), typed);
        }
    }

    #[test]
    fn two_actions_at_once_are_refused() {
        let said = line("tenmint keys key_1 --rotate --delete");
        assert_eq!(said, "one action at a time, and not `--delete` and `--rotate` together");
    }

    #[test]
    fn no_action_is_called_like_an_option() {
        let program = program();
        let noun = program.find_subcommand(NOUN).unwrap();
        let options = noun.get_subcommands().flat_map(|action| {
            let longs = action.get_arguments().filter_map(Arg::get_long_and_visible_aliases);
            longs.flatten().map(str::to_owned).collect::<Vec<_>>()
        });
        for option in options {
            assert!(noun.find_subcommand(&option).is_none(), "--{option}");
        }
    }

    #[test]
    fn every_rewritten_line_parses() {
        for typed in [
            "tenmint keys",
            "tenmint keys key_1",
            "tenmint keys --create --name x --scopes a,b",
            "tenmint keys key_1 --ip-filter --allow 10.0.0.1 --block none",
            "tenmint keys key_1 --quota --rpm 5 --window 1",
            "tenmint keys key_1 --delete",
            "tenmint keys --import=FILE --dry-run",
        ] {
            let arguments = typed.split(' ').map(OsString::from).collect();
            let arguments = rewritten(arguments, program).unwrap();
            assert!(program().try_get_matches_from(arguments).is_ok(), "{typed}");
        }
    }

    #[test]
    fn every_action_is_a_flag_of_the_completions() {
        let program = crate::cli::Cli::command();
        let noun = program.find_subcommand(NOUN).unwrap();
        let names: Vec<&str> = noun.get_subcommands().map(Command::get_name).collect();
        assert_eq!(names, ACTIONS);
    }
}
