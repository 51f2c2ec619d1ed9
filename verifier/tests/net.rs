//! Address rules, held against bits that are compared one by one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use tenmint_verifier::{IpRange, Net};

fn range(text: &str) -> IpRange {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn net(allow: &[&str], block: &[&str]) -> Net {
    let [allow, block] = [allow, block].map(|list| list.iter().map(|text| range(text)));
    Net::from_lists(allow, block).unwrap()
}

fn refuses(net: &Net, callers: &[&str]) -> bool {
    callers.iter().all(|caller| !net.allows(caller.parse().unwrap()))
}

fn allows(net: &Net, callers: &[&str]) -> bool {
    callers.iter().all(|caller| net.allows(caller.parse().unwrap()))
}

#[test]
fn an_allow_list_refuses_all_that_it_does_not_name() {
    let rules = net(&["10.0.0.0/8", "192.0.2.7"], &[]);
    assert!(allows(&rules, &["10.0.0.0", "10.255.255.255", "192.0.2.7"]));
    assert!(refuses(&rules, &["9.255.255.255", "11.0.0.0", "192.0.2.6", "192.0.2.8"]));
}

#[test]
fn an_allow_list_refuses_a_family_that_it_does_not_name() {
    assert!(refuses(&net(&["0.0.0.0/0"], &[]), &["::", "::1", "2001:db8::1"]));
    assert!(refuses(&net(&["::/0"], &[]), &["0.0.0.0", "192.0.2.1", "::ffff:192.0.2.1"]));
    let both = net(&["0.0.0.0/0", "::/0"], &[]);
    assert!(allows(&both, &["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"]));
}

#[test]
fn an_empty_allow_list_allows_all_that_is_not_blocked() {
    let rules = net(&[], &["10.0.0.0/8"]);
    assert!(allows(&rules, &["192.0.2.1", "2001:db8::1", "::1"]));
    let spelled = ["10.1.2.3", "::ffff:10.1.2.3", "::10.1.2.3", "64:ff9b::10.1.2.3"];
    assert!(refuses(&rules, &spelled), "one address, however it is spelled");
}

#[test]
fn a_block_wins_over_the_narrowest_allow() {
    let rules = net(&["10.1.0.1", "10.2.0.0/16"], &["10.0.0.0/8"]);
    assert!(refuses(&rules, &["10.1.0.1", "10.2.0.1", "10.3.0.1", "192.0.2.1"]));
    assert!(allows(&net(&["10.0.0.0/8"], &["10.1.0.0/16"]), &["10.0.255.255", "10.2.0.0"]));
}

#[test]
fn a_block_of_all_ipv6_addresses_blocks_no_ipv4_caller_however_it_is_spelled() {
    for block in ["::/0", "::/64", "::/95"] {
        let rules = net(&[], &[block]);
        let spelled = ["192.0.2.1", "::ffff:192.0.2.1", "::192.0.2.1", "64:ff9b::192.0.2.1"];
        assert!(allows(&rules, &spelled), "{block}");
    }
}

#[test]
fn a_mapped_range_is_ipv4() {
    for (mapped, plain) in [
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:a00:0/104", "10.0.0.0/8"),
        ("::FFFF:192.0.2.1/128", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
    ] {
        assert_eq!(range(mapped), range(plain));
        assert_eq!(range(mapped).to_string(), plain);
    }
    let rules = net(&["::ffff:10.0.0.0/104"], &["::ffff:10.1.0.0/112"]);
    assert!(allows(&rules, &["10.2.0.1", "::ffff:10.2.0.1"]));
    assert!(refuses(&rules, &["10.1.0.1", "::ffff:10.1.0.1", "::10.1.0.1", "11.0.0.1"]));
}

#[test]
fn what_is_no_range_is_refused_with_the_fix_named() {
    let long = "x".repeat(10_000);
    for (text, fix) in [
        ("10.0.0.1/8", "write `10.0.0.0/8`"),
        ("10.0.0.1/31", "write `10.0.0.0/31`"),
        ("0.0.0.1/0", "write `0.0.0.0/0`"),
        ("2001:db8::1/32", "write `2001:db8::/32`"),
        ("::1/0", "write `::/0`"),
        ("::ffff:10.0.0.1/104", "write `10.0.0.0/8`"),
        ("::ffff:10.0.0.0/8", "write `::/8`"),
        ("10.0.0.0/33", "from `/0` to `/32`"),
        ("10.0.0.0/", "from `/0` to `/32`"),
        ("10.0.0.0/08", "from `/0` to `/32`"),
        ("10.0.0.0/+8", "from `/0` to `/32`"),
        ("10.0.0.0/-1", "from `/0` to `/32`"),
        ("10.0.0.0/ 8", "from `/0` to `/32`"),
        ("10.0.0.0/8/8", "from `/0` to `/32`"),
        ("10.0.0.0/264", "from `/0` to `/32`"),
        ("10.0.0.0/255.0.0.0", "from `/0` to `/32`"),
        ("2001:db8::/129", "from `/0` to `/128`"),
        ("", "is no address"),
        ("/", "is no address"),
        ("/8", "is no address"),
        ("*", "is no address"),
        ("10.0.0.*", "is no address"),
        ("10.0.0/24", "is no address"),
        ("10", "is no address"),
        ("010.0.0.0/8", "is no address"),
        ("0x0a.0.0.0/8", "is no address"),
        (" 10.0.0.0/8", "is no address"),
        ("10.0.0.0 /8", "is no address"),
        ("[2001:db8::]/32", "is no address"),
        ("fe80::1%eth0", "is no address"),
        ("10.0.0.1:443", "is no address"),
        ("example.com", "is no address"),
        (&long, "is no address"),
    ] {
        let error = text.parse::<IpRange>().expect_err(text).to_string();
        assert!(error.contains(fix) && error.len() < 200, "{text:?}: {error}");
    }
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    // few bits differ, so that a range and a caller meet
    let few = prop_oneof![any::<u128>(), (0_u32..128).prop_map(|bit| 1 << bit), Just(0)];
    let mapped = 0xffff_u128 << 32;
    prop_oneof![
        any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits & 0x8000_0103).into()),
        any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).into()),
        few.prop_map(|bits| Ipv6Addr::from_bits(bits).into()),
        any::<u32>().prop_map(move |bits| Ipv6Addr::from_bits(mapped | u128::from(bits)).into()),
    ]
}

/// The family and the bits of an address, told a second time.
fn bits(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("4{:032b}", address.to_bits()),
        IpAddr::V6(address) => {
            let all = format!("{:0128b}", address.to_bits());
            let mapped = format!("{}{}", "0".repeat(80), "1".repeat(16));
            let nat64 = format!("{:032b}{}", 0x64_ff9b, "0".repeat(64));
            let compatible = "0".repeat(96);
            let ipv4 = [mapped, nat64, compatible].iter().find_map(|start| all.strip_prefix(start));
            // `::` and `::1` are addresses of their own
            let is_own = address.to_bits() <= 1;
            let ipv4 = ipv4.filter(|_| !is_own);
            ipv4.map_or_else(|| format!("6{all}"), |ipv4| format!("4{ipv4}"))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn a_range_holds_exactly_the_addresses_that_begin_with_its_bits(
        base in any_address(), length in 0_usize..=128, caller in any_address(), near in any::<bool>(),
    ) {
        let (family, all) = bits(base).chars().next().zip(bits(base).get(1..).map(str::to_owned)).unwrap();
        let length = length.min(all.len());
        let kept = all.get(..length).unwrap();
        let network = format!("{kept:0<width$}", width = all.len());
        let network: IpAddr = match family {
            '4' => Ipv4Addr::from_bits(u32::from_str_radix(&network, 2).unwrap()).into(),
            _ => Ipv6Addr::from_bits(u128::from_str_radix(&network, 2).unwrap()).into(),
        };
        // the bits of an IPv6 address cut to zeros can be those of no other family
        let range = range(&format!("{network}/{length}"));
        let caller = if near { base } else { caller };
        let expected = bits(caller).starts_with(&format!("{family}{kept}"));
        prop_assert_eq!(range.contains(caller), expected, "{} {}", range, caller);
        prop_assert_eq!(range.to_string().parse::<IpRange>().unwrap(), range);
        prop_assert!(range.contains(network));
    }

    #[test]
    fn lists_are_block_before_allow_and_a_mapped_caller_is_the_ipv4_one(
        allow in prop::collection::vec(any_address(), 0..3),
        block in prop::collection::vec(any_address(), 0..3),
        caller in any_address(),
    ) {
        let list = |all: &[IpAddr]| all.iter().map(|a| range(&a.to_string())).collect::<Vec<_>>();
        let Some(net) = Net::from_lists(list(&allow), list(&block)) else { return Ok(()) };
        let is_in = |all: &[IpAddr], caller| all.iter().any(|one| bits(*one) == bits(caller));
        for caller in allow.iter().chain(&block).chain([&caller]).copied() {
            let expected = !is_in(&block, caller) && (allow.is_empty() || is_in(&allow, caller));
            prop_assert_eq!(net.allows(caller), expected);
            if let IpAddr::V4(plain) = caller {
                prop_assert_eq!(net.allows(plain.to_ipv6_mapped().into()), expected);
            }
        }
    }

    #[test]
    fn any_text_parses_or_is_refused(text in "\\PC{0,20}|[0-9a-f:./%]{0,40}|[0-9.]{7,15}/[0-9]{1,3}") {
        if let Ok(range) = text.parse::<IpRange>() {
            prop_assert_eq!(range.to_string().parse::<IpRange>().unwrap(), range);
        }
    }
}
