//! Address rules of an API key: from where it gets tokens.
//!
//! `block` wins over `allow`. An empty allow list allows all; any entry in it refuses every address
//! of a family that has none.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use crate::error::InvalidField;
use crate::model::ip_range::{Family, InvalidIpRange, IpRange, Span, parse_ranges};

/// Entries that both lists may have together.
const MAX_ENTRIES: usize = 100;

/// An allow and a block list. Order and repetition mean nothing and are not kept, so that equal
/// rules are equal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, JsonSchema)]
pub struct IpRules {
    allow: Box<[IpRange]>,
    block: Box<[IpRange]>,
}

impl IpRules {
    /// The rules of two lists as people write them.
    ///
    /// # Errors
    /// One entry for each item that is no range, of the field `allow` or `block`.
    pub fn parse(allow: &[String], block: &[String]) -> Result<Self, Vec<InvalidField>> {
        Self::default().edited(Some(allow), Some(block))
    }

    /// The same rules, with each list that is named replaced.
    ///
    /// # Errors
    /// As of [`IpRules::parse`].
    pub fn edited(
        &self,
        allow: Option<&[String]>,
        block: Option<&[String]>,
    ) -> Result<Self, Vec<InvalidField>> {
        let allowed = allow.map_or(self.allow.len(), <[_]>::len);
        let blocked = block.map_or(self.block.len(), <[_]>::len);
        check_number(allowed, blocked)?;
        let mut wrong = Vec::new();
        let mut list = |field, asked: Option<&[String]>, kept: &[IpRange]| {
            set(asked.map_or_else(|| kept.to_vec(), |items| parse_ranges(field, items, &mut wrong)))
        };
        let rules = Self {
            allow: list("allow", allow, &self.allow),
            block: list("block", block, &self.block),
        };
        if wrong.is_empty() { Ok(rules) } else { Err(wrong) }
    }

    /// The rules of two stored texts, as [`IpRules::allow_text`] and [`IpRules::block_text`] gave
    /// them.
    ///
    /// # Errors
    /// A text holds what is no range.
    pub fn from_texts(allow: &str, block: &str) -> Result<Self, InvalidIpRange> {
        let list = |text: &str| -> Result<Vec<IpRange>, InvalidIpRange> {
            text.split_ascii_whitespace().map(str::parse).collect()
        };
        Ok(Self { allow: set(list(allow)?), block: set(list(block)?) })
    }

    /// The allow list, separated by spaces.
    pub fn allow_text(&self) -> String {
        text(&self.allow)
    }

    /// The block list, separated by spaces.
    pub fn block_text(&self) -> String {
        text(&self.block)
    }

    /// The allow list.
    pub fn allow(&self) -> &[IpRange] {
        &self.allow
    }

    /// The block list.
    pub fn block(&self) -> &[IpRange] {
        &self.block
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.block.is_empty()
    }

    /// Whether an address, in whatever spelling, passes.
    pub fn allows(&self, address: IpAddr) -> bool {
        let is_in = |list: &[IpRange]| list.iter().any(|range| range.contains(address));
        (self.allow.is_empty() || is_in(&self.allow)) && !is_in(&self.block)
    }

    /// Whether a caller passes. `None` is one whose address cannot be told: it passes no rule, not
    /// even a block list that might not name it.
    pub fn admits(&self, caller: Option<IpAddr>) -> bool {
        self.is_empty() || caller.is_some_and(|address| self.allows(address))
    }

    /// Whether every address that `narrow` allows is allowed here. Exact.
    pub fn covers(&self, narrow: &Self) -> bool {
        self.is_empty()
            || Family::BOTH.into_iter().all(|family| {
                let wide = self.allowed(family);
                let is_within = |(first, last): &Span| {
                    wide.iter().any(|(from, to)| from <= first && last <= to)
                };
                narrow.allowed(family).iter().all(is_within)
            })
    }

    /// What is allowed here and yet most likely not meant.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for family in Family::BOTH {
            let is_all = |list| union(spans(list, family)) == [family.everything()];
            if is_all(&self.allow) {
                warnings.push(format!("`allow` holds every {family} address"));
            }
            if is_all(&self.block) {
                warnings.push(format!("`block` holds every {family} address"));
            }
        }
        if Family::BOTH.into_iter().all(|family| self.allowed(family).is_empty()) {
            warnings.push("`block` leaves no address: a key with these rules is of no use".into());
        }
        warnings
    }

    /// The addresses of a family that pass, in order, with a gap between any two spans.
    fn allowed(&self, family: Family) -> Vec<Span> {
        let allowed = if self.allow.is_empty() {
            vec![family.everything()]
        } else {
            union(spans(&self.allow, family))
        };
        // what is asked about as IPv4 is neither allowed nor blocked as IPv6
        spans(&self.block, family).chain(family.elsewhere().iter().copied()).fold(allowed, without)
    }
}

fn check_number(allowed: usize, blocked: usize) -> Result<(), Vec<InvalidField>> {
    let entries = allowed.saturating_add(blocked);
    if entries <= MAX_ENTRIES {
        return Ok(());
    }
    let field = if allowed >= blocked { "allow" } else { "block" };
    let message = format!(
        "`allow` and `block` have {entries} entries together: at most {MAX_ENTRIES} are possible, \
         and a shorter prefix says the same in fewer"
    );
    Err(vec![InvalidField { field: field.into(), message }])
}

fn set(mut ranges: Vec<IpRange>) -> Box<[IpRange]> {
    ranges.sort_unstable();
    ranges.dedup();
    ranges.into()
}

fn text(list: &[IpRange]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn spans(list: &[IpRange], family: Family) -> impl Iterator<Item = Span> {
    list.iter().filter(move |range| range.family() == family).map(IpRange::span)
}

/// The same addresses, in order, in as few spans as can be.
fn union(spans: impl Iterator<Item = Span>) -> Vec<Span> {
    let mut spans: Vec<Span> = spans.collect();
    spans.sort_unstable();
    let mut union: Vec<Span> = Vec::with_capacity(spans.len());
    for (first, last) in spans {
        match union.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => union.push((first, last)),
        }
    }
    union
}

/// The same addresses without those of a hole.
fn without(spans: Vec<Span>, hole: Span) -> Vec<Span> {
    let mut left = Vec::with_capacity(spans.len() + 1);
    for (first, last) in spans {
        if first < hole.0 {
            left.push((first, last.min(hole.0 - 1)));
        }
        if hole.1 < last {
            left.push((first.max(hole.1 + 1), last));
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::test_runner::TestCaseResult;

    use super::*;
    use crate::model::ip_range::tests::a_range;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn rules(allow: &str, block: &str) -> IpRules {
        IpRules::parse(&words(allow), &words(block)).unwrap()
    }

    fn faults(allow: &str, block: &str) -> Vec<String> {
        let wrong = IpRules::parse(&words(allow), &words(block)).unwrap_err();
        wrong.iter().map(|wrong| format!("{}: {}", wrong.field, wrong.message)).collect()
    }

    #[test]
    fn block_wins_and_a_family_without_an_entry_is_refused() {
        let (v4, v6, mapped) = ("10.0.0.1", "2001:db8::1", "::ffff:10.0.0.1");
        for (allow, block, allowed) in [
            ("", "", [true, true, true]),
            ("10.0.0.0/8", "", [true, false, true]),
            ("::ffff:10.0.0.0/104", "", [true, false, true]),
            ("0.0.0.0/0", "", [true, false, true]),
            ("::/0", "", [false, true, false]),
            ("0.0.0.0/0 ::/0", "", [true, true, true]),
            ("", "10.0.0.1", [false, true, false]),
            ("", "::ffff:10.0.0.1", [false, true, false]),
            ("", "0.0.0.0/0", [false, true, false]),
            ("", "::/0", [true, false, true]),
            ("10.0.0.1", "10.0.0.0/8", [false, false, false]),
            ("10.0.0.0/8", "10.0.0.0/31", [false, false, false]),
            ("10.0.0.0/8 2001:db8::/32", "10.0.0.2", [true, true, true]),
            ("192.0.2.1", "", [false, false, false]),
        ] {
            let rules = rules(allow, block);
            let found = [v4, v6, mapped].map(|address| rules.allows(address.parse().unwrap()));
            assert_eq!(found, allowed, "allow {allow:?}, block {block:?}");
        }
    }

    #[test]
    fn a_caller_without_an_address_passes_no_rule() {
        let known = Some("10.0.0.1".parse().unwrap());
        assert!(rules("", "").admits(None));
        assert!(rules("", "").admits(known));
        for (allow, block) in [("0.0.0.0/0 ::/0", ""), ("", "192.0.2.1")] {
            assert!(!rules(allow, block).admits(None));
            assert!(rules(allow, block).admits(known));
        }
    }

    #[test]
    fn each_bad_item_is_named_with_its_field() {
        assert_eq!(
            faults("10.0.0.1/8 10.0.0.2 nowhere", "2001:db8::/200"),
            [
                "allow: `10.0.0.1/8`: bits are set behind the prefix: write `10.0.0.0/8`",
                "allow: `nowhere`: this is no address: write one like `192.0.2.7`, \
                 `192.0.2.0/24` or `2001:db8::/32`",
                "block: `2001:db8::/200`: behind the `/` stands a number from 0 to 128, like \
                 `/128`",
            ]
        );
    }

    #[test]
    fn both_lists_have_a_hundred_entries_at_most() {
        let many =
            |number: u8| (0..number).map(|n| format!("10.0.0.{n}")).collect::<Vec<_>>().join(" ");
        assert!(IpRules::parse(&words(&many(60)), &words(&many(40))).is_ok());
        assert!(faults(&many(60), &many(41))[0].starts_with("allow: `allow` and `block` have 101"));
        assert!(faults("", &many(101))[0].starts_with("block: "));
        let full = rules(&many(60), &many(40));
        assert!(full.edited(Some(&words(&many(61))), None).is_err());
        assert!(full.edited(Some(&[]), None).is_ok());
    }

    #[test]
    fn an_edit_replaces_only_the_list_it_names() {
        let before = rules("10.0.0.0/8", "10.0.0.1");
        assert_eq!(before.edited(None, None).unwrap(), before);
        let after = before.edited(None, Some(&[])).unwrap();
        assert_eq!(after, rules("10.0.0.0/8", ""));
        let after = before.edited(Some(&words("192.0.2.0/24")), None).unwrap();
        assert_eq!(after, rules("192.0.2.0/24", "10.0.0.1"));
    }

    #[test]
    fn order_repetition_and_spelling_make_no_difference() {
        let one = rules("10.0.0.1 2001:db8::/32 10.0.0.1/32", "");
        assert_eq!(one, rules("2001:DB8::/32 ::ffff:10.0.0.1", ""));
        assert_eq!(one.allow_text(), "10.0.0.1 2001:db8::/32");
        let json = serde_json::to_string(&one).unwrap();
        assert_eq!(json, r#"{"allow":["10.0.0.1","2001:db8::/32"],"block":[]}"#);
    }

    #[test]
    fn what_is_most_likely_not_meant_is_warned_of() {
        for (allow, block, warnings) in [
            ("", "", &[][..]),
            ("10.0.0.0/8", "10.0.0.0/9", &[]),
            ("0.0.0.0/0", "", &["`allow` holds every IPv4 address"]),
            ("0.0.0.0/1 128.0.0.0/1", "", &["`allow` holds every IPv4 address"]),
            ("::/0", "", &["`allow` holds every IPv6 address"]),
            ("", "::/0", &["`block` holds every IPv6 address"]),
            (
                "10.0.0.0/8",
                "10.0.0.0/9 10.128.0.0/9",
                &["`block` leaves no address: a key with these rules is of no use"],
            ),
            // nothing is left that would be asked about as IPv6
            (
                "::fffe:0:0/95",
                "::fffe:0:0/96",
                &["`block` leaves no address: a key with these rules is of no use"],
            ),
        ] {
            assert_eq!(rules(allow, block).warnings(), warnings, "{allow:?} {block:?}");
        }
        assert_eq!(rules("", "0.0.0.0/0 ::/0").warnings().len(), 3);
    }

    #[test]
    fn rules_cover_what_they_allow_and_no_more() {
        for (wide, narrow, covers) in [
            (("", ""), ("", ""), true),
            (("", ""), ("10.0.0.1", ""), true),
            (("10.0.0.1", ""), ("", ""), false),
            (("0.0.0.0/0", ""), ("", ""), false),
            (("0.0.0.0/0 ::/0", ""), ("", ""), true),
            (("10.0.0.0/8", ""), ("10.1.0.0/16", ""), true),
            (("10.0.0.0/9 10.128.0.0/9", ""), ("10.0.0.0/8", ""), true),
            (("10.0.0.0/9", ""), ("10.0.0.0/8", "10.128.0.0/9"), true),
            (("10.0.0.0/9", ""), ("10.0.0.0/8", "10.128.0.0/10"), false),
            (("10.0.0.0/8", "10.0.0.1"), ("10.0.0.0/8", ""), false),
            (("10.0.0.0/8", "10.0.0.1"), ("10.0.0.0/8", "10.0.0.0/31"), true),
            // a block list alone narrows the other family as little as no rule does
            (("", "10.0.0.1"), ("::/0", ""), true),
            (("::/0", ""), ("", "10.0.0.1"), false),
            // who admits nobody is covered by all
            (("192.0.2.1", ""), ("10.0.0.1", "10.0.0.1"), true),
            // the half of it that is IPv4 is never asked about as IPv6
            (("::fffe:0:0/96", ""), ("::fffe:0:0/95", ""), true),
            (("::fffe:0:0/96", ""), ("::fffc:0:0/94", ""), false),
        ] {
            let found = rules(wide.0, wide.1).covers(&rules(narrow.0, narrow.1));
            assert_eq!(found, covers, "{wide:?} {narrow:?}");
        }
    }

    /// Ranges of sixteen addresses, and of a few that are far from them.
    fn small_ranges() -> impl Strategy<Value = Vec<IpRange>> {
        let small = (0..16_u8, 28..=32_u8).prop_map(|(low, prefix)| {
            let low = u32::from(low) >> (32 - prefix) << (32 - prefix);
            format!("10.0.0.{low}/{prefix}")
        });
        let far = prop_oneof![Just("0.0.0.0/0"), Just("10.0.0.0/8"), Just("::/0"), Just("::1")];
        let range = prop_oneof![8 => small, 1 => far.prop_map(str::to_owned)];
        vec(range.prop_map(|text| text.parse().unwrap()), 0..6)
    }

    fn small_rules() -> impl Strategy<Value = IpRules> {
        (small_ranges(), small_ranges())
            .prop_map(|(allow, block)| IpRules { allow: set(allow), block: set(block) })
    }

    fn any_rules() -> impl Strategy<Value = IpRules> {
        (vec(a_range(), 0..6), vec(a_range(), 0..6))
            .prop_map(|(allow, block)| IpRules { allow: set(allow), block: set(block) })
    }

    /// The addresses at which a verdict can change: the ends of every range, and what is beside.
    fn critical(rules: [&IpRules; 2]) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        for family in Family::BOTH {
            let lists = rules.iter().flat_map(|rules| rules.allow.iter().chain(&rules.block));
            let own = lists.filter(|range| range.family() == family).map(IpRange::span);
            let all = own.chain(family.elsewhere().iter().copied()).chain([family.everything()]);
            for (first, last) in all {
                let beside = [first, first.saturating_sub(1), last, last.saturating_add(1)];
                let (_, end) = family.everything();
                addresses.extend(beside.map(|number| family.address(number.min(end))));
            }
        }
        addresses
    }

    fn agrees(wide: &IpRules, narrow: &IpRules, addresses: &[IpAddr]) -> TestCaseResult {
        let counter = addresses.iter().find(|ip| narrow.allows(**ip) && !wide.allows(**ip));
        prop_assert_eq!(wide.covers(narrow), counter.is_none(), "{:?}", counter);
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn covers_is_what_asking_for_each_address_says(
            wide in small_rules(),
            narrow in small_rules(),
        ) {
            let near = (0..16).map(|low| format!("10.0.0.{low}").parse().unwrap());
            let far = ["10.0.0.16", "192.0.2.1", "::1", "2001:db8::1"];
            let far = far.map(|address| address.parse().unwrap());
            let addresses: Vec<IpAddr> = near.chain(far).collect();
            agrees(&wide, &narrow, &addresses)?;
        }

        #[test]
        fn covers_is_exact_for_any_ranges(wide in any_rules(), narrow in any_rules()) {
            agrees(&wide, &narrow, &critical([&wide, &narrow]))?;
        }

        #[test]
        fn rules_cover_themselves_and_what_takes_more_away(
            rules in any_rules(),
            more in vec(a_range(), 0..4),
        ) {
            prop_assert!(rules.covers(&rules));
            let block = rules.block.iter().copied().chain(more).collect();
            let narrow = IpRules { block: set(block), ..rules.clone() };
            prop_assert!(rules.covers(&narrow));
        }

        #[test]
        fn rules_are_told_useless_where_no_address_passes(rules in small_rules()) {
            let useless = rules.warnings().iter().any(|warning| warning.contains("no address"));
            let passes = critical([&rules, &rules]).iter().any(|address| rules.allows(*address));
            prop_assert_eq!(useless, !passes);
        }

        #[test]
        fn what_is_stored_reads_back(rules in any_rules()) {
            let stored = IpRules::from_texts(&rules.allow_text(), &rules.block_text());
            prop_assert_eq!(stored, Ok(rules));
        }
    }
}
