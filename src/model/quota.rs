//! Quotas: how many requests of an API key are admitted in a window that slides.
//!
//! A window moves on by slots, each a sixtieth of it but no less than a tenth of a second. The
//! current slot and a window's worth of slots before it cover every window that ends now, so that
//! a count over them never lets one request too many through, and forgets one slot late at most.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::time::Timestamp;

/// Requests that a quota may allow at most.
const MAX_LIMIT: u32 = 1_000_000_000;
/// Seconds that a window may have at most: 31 days.
const MAX_WINDOW: u32 = 31 * 86_400;
/// Slots of a window, unless they would be shorter than [`SLOTS_PER_SECOND`] allows.
const SLOTS: u32 = 60;
/// Slots of a second at most.
const SLOTS_PER_SECOND: u32 = 10;

/// So many requests in any window of so many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
pub struct Quota {
    /// Requests that are admitted in any window.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    limit: u32,
    /// Seconds of the window.
    window: Window,
}

/// The length of a window that slides: a second to 31 days, a minute by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
pub struct Window(#[schemars(range(min = 1, max = 2_678_400))] u32);

impl Quota {
    /// So many requests in any window of so many seconds; none said is a minute.
    ///
    /// # Errors
    /// [`InvalidQuota`], for the limit first.
    pub fn new(limit: i64, window_seconds: Option<i64>) -> Result<Self, InvalidQuota> {
        let limit = within(limit, MAX_LIMIT).ok_or(InvalidQuota::Limit)?;
        let window = window_seconds.map_or(Some(Window::default()), Window::from_seconds);
        Ok(Self { limit, window: window.ok_or(InvalidQuota::Window)? })
    }

    /// Requests that are admitted in any window.
    pub fn limit(self) -> u32 {
        self.limit
    }

    /// The window.
    pub fn window(self) -> Window {
        self.window
    }
}

fn within(number: i64, max: u32) -> Option<u32> {
    u32::try_from(number).ok().filter(|number| (1..=max).contains(number))
}

impl Window {
    /// So many seconds, if that is a second to 31 days.
    pub fn from_seconds(seconds: i64) -> Option<Self> {
        within(seconds, MAX_WINDOW).map(Self)
    }

    /// The seconds.
    pub fn as_seconds(self) -> u32 {
        self.0
    }

    /// How many slots make a window: sixty, or ten a second where the window is below six seconds.
    pub fn slots(self) -> i64 {
        self.0.saturating_mul(SLOTS_PER_SECOND).min(SLOTS).into()
    }

    /// The slot that a moment lies in, counted from 1970.
    pub fn slot_at(self, moment: Timestamp) -> i64 {
        // slots are no whole milliseconds for most windows, so they are counted and not added up
        let slots = i128::from(moment.as_millis()) * i128::from(self.slots());
        saturated(slots.div_euclid(self.millis()))
    }

    /// The first moment of a slot.
    pub fn start_of(self, slot: i64) -> Timestamp {
        let (slots, number) = (i128::from(self.slots()), i128::from(slot));
        // rounded up: the millisecond before still lies in the slot before
        Timestamp::from_millis(saturated(-(-number * self.millis()).div_euclid(slots)))
    }

    /// The moment at which nothing of a slot lies in a window any more.
    pub fn left_by(self, slot: i64) -> Timestamp {
        self.start_of(slot.saturating_add(self.slots()).saturating_add(1))
    }

    fn millis(self) -> i128 {
        i128::from(self.0) * 1000
    }
}

fn saturated(number: i128) -> i64 {
    let bounds = (i64::MIN.into(), i64::MAX.into());
    i64::try_from(number.clamp(bounds.0, bounds.1)).unwrap_or(i64::MAX)
}

impl Default for Window {
    /// A minute.
    fn default() -> Self {
        Self(60)
    }
}

impl fmt::Display for Quota {
    /// `100/60s`, which parses back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}s", self.limit, self.window.0)
    }
}

/// What is wrong with a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidQuota {
    /// The number of requests.
    Limit,
    /// The length of the window.
    Window,
}

impl fmt::Display for InvalidQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit => write!(f, "a quota allows 1 to {MAX_LIMIT} requests"),
            Self::Window => write!(f, "the window of a quota has 1 to {MAX_WINDOW} seconds"),
        }
    }
}

impl std::error::Error for InvalidQuota {}

impl FromStr for Quota {
    type Err = InvalidQuota;

    /// Takes `100`, `100/60` and `100/60s`.
    fn from_str(text: &str) -> Result<Self, InvalidQuota> {
        let (limit, window) = match text.split_once('/') {
            Some((limit, window)) => (limit, Some(window.strip_suffix('s').unwrap_or(window))),
            None => (text, None),
        };
        let limit = digits(limit).ok_or(InvalidQuota::Limit)?;
        let window = window.map(|window| digits(window).ok_or(InvalidQuota::Window)).transpose();
        // a limit that is out of bounds is said before a window that is no number
        Self::new(limit, None)?;
        Self::new(limit, window?)
    }
}

/// A number of digits alone: no sign, no blank.
fn digits(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(seconds: i64) -> Window {
        Window::from_seconds(seconds).unwrap()
    }

    #[test]
    fn a_quota_is_bounded_and_has_a_minute_by_default() {
        assert_eq!(Quota::new(1, None).unwrap().window().as_seconds(), 60);
        assert!(Quota::new(1_000_000_000, Some(2_678_400)).is_ok());
        for limit in [i64::MIN, -1, 0, 1_000_000_001, i64::MAX] {
            assert_eq!(Quota::new(limit, Some(0)), Err(InvalidQuota::Limit), "{limit}");
        }
        for seconds in [i64::MIN, -1, 0, 2_678_401, i64::MAX] {
            assert_eq!(Quota::new(1, Some(seconds)), Err(InvalidQuota::Window), "{seconds}");
        }
    }

    #[test]
    fn a_quota_prints_and_parses_back() {
        for (text, printed) in [("100", "100/60s"), ("5/1", "5/1s"), ("7/3600s", "7/3600s")] {
            assert_eq!(text.parse::<Quota>().unwrap().to_string(), printed);
            assert_eq!(printed.parse::<Quota>().unwrap().to_string(), printed);
        }
        for text in ["", "/", "/60", "+1", " 1", "1.5", "0/60", "9999999999999999999", "\u{661}"] {
            assert_eq!(text.parse::<Quota>(), Err(InvalidQuota::Limit), "{text}");
        }
        for text in ["1/", "1/s", "1/0", "1/60ss", "1/1m", "1/-60", "1/60/60"] {
            assert_eq!(text.parse::<Quota>(), Err(InvalidQuota::Window), "{text}");
        }
    }

    #[test]
    fn a_quota_is_shown_as_its_two_numbers() {
        let json = serde_json::to_string(&Quota::new(100, Some(5)).unwrap()).unwrap();
        assert_eq!(json, r#"{"limit":100,"window":5}"#);
        let schema = serde_json::to_value(schemars::schema_for!(Quota)).unwrap();
        assert_eq!(schema["properties"]["limit"]["maximum"], MAX_LIMIT);
        assert_eq!(schema["$defs"]["Window"]["maximum"], MAX_WINDOW);
    }

    #[test]
    fn a_slot_is_a_sixtieth_of_the_window_and_never_below_a_tenth_of_a_second() {
        for (seconds, slots) in [(1, 10), (5, 50), (6, 60), (7, 60), (60, 60), (2_678_400, 60)] {
            assert_eq!(window(seconds).slots(), slots, "{seconds}");
        }
        let start = |slot| window(60).start_of(slot).as_millis();
        assert_eq!((start(0), start(1), start(-1)), (0, 1_000, -1_000));
        // 116.67 ms a slot
        let starts: Vec<i64> = (0..4).map(|slot| window(7).start_of(slot).as_millis()).collect();
        assert_eq!(starts, [0, 117, 234, 350]);
    }

    proptest! {
        #[test]
        fn a_slot_starts_with_its_first_millisecond(
            seconds in 1_i64..=2_678_400,
            millis in -4_000_000_000_000_i64..4_000_000_000_000,
        ) {
            let (window, moment) = (window(seconds), Timestamp::from_millis(millis));
            let slot = window.slot_at(moment);
            prop_assert!(window.start_of(slot) <= moment && moment < window.start_of(slot + 1));
            prop_assert_eq!(window.slot_at(window.start_of(slot)), slot);
        }

        #[test]
        fn a_window_ago_is_exactly_so_many_slots_ago(
            seconds in 1_i64..=2_678_400,
            millis in 0_i64..4_000_000_000_000,
        ) {
            let window = window(seconds);
            let ago = Timestamp::from_millis(millis - seconds * 1000);
            let now = Timestamp::from_millis(millis);
            prop_assert_eq!(window.slot_at(ago), window.slot_at(now) - window.slots());
            // what is a window and a slot old has left
            let late = window.left_by(window.slot_at(now)).as_millis() - millis;
            prop_assert!(late > seconds * 1000);
            prop_assert!(late <= (seconds * 1000) + seconds * 1000 / window.slots() + 1);
        }
    }

    #[test]
    fn the_ends_of_time_overflow_nothing() {
        for millis in [i64::MIN, i64::MAX] {
            for seconds in [1, 2_678_400] {
                let slot = window(seconds).slot_at(Timestamp::from_millis(millis));
                window(seconds).left_by(slot);
                window(seconds).start_of(millis);
            }
        }
    }
}
