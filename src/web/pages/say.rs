//! How the pages say numbers and times: sizes in MiB and GiB, times relative with the exact one
//! at hand. One form each, everywhere.

use chrono::{DateTime, SecondsFormat, Utc};

/// A moment, and the one it is seen from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When {
    pub at: DateTime<Utc>,
    pub now: DateTime<Utc>,
}

impl When {
    /// RFC 3339, for machines: `2026-11-22T14:03:09Z`.
    #[must_use]
    pub fn iso(&self) -> String {
        self.at.to_rfc3339_opts(SecondsFormat::Secs, true)
    }

    /// For people who hover: `22 November 2026, 14:03:09 UTC`.
    #[must_use]
    pub fn exact(&self) -> String {
        self.at.format("%-d %B %Y, %H:%M:%S UTC").to_string()
    }

    /// For everyone: `3 minutes ago`, `in 29 days`, and past a month the date.
    #[must_use]
    pub fn relative(&self) -> String {
        let seconds = (self.now - self.at).num_seconds();
        let (ahead, distance) = (seconds < 0, seconds.unsigned_abs());
        let text = match distance {
            0..10 => return "just now".to_owned(),
            10..60 => format!("{distance} seconds"),
            60..3_600 => count(distance / 60, "minute"),
            3_600..86_400 => count(distance / 3_600, "hour"),
            86_400..2_678_400 => count(distance / 86_400, "day"),
            _ => return self.at.format("%-d %b %Y").to_string(),
        };
        if ahead {
            format!("in {text}")
        } else {
            format!("{text} ago")
        }
    }

    /// How long between the two: `3 h 12 min`.
    #[must_use]
    pub fn span(&self) -> String {
        duration((self.now - self.at).num_seconds().unsigned_abs())
    }
}

/// `1 minute`, `2 minutes`.
#[must_use]
pub fn count(number: u64, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

/// A length of time in seconds, by its two largest units: `45 s`, `3 min 5 s`, `2 d 4 h`.
#[must_use]
pub fn duration(seconds: u64) -> String {
    let (large, large_unit, small, small_unit) = match seconds {
        0..60 => return format!("{seconds} s"),
        60..3_600 => (seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => (seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => (seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    };
    if small == 0 {
        format!("{large} {large_unit}")
    } else {
        format!("{large} {large_unit} {small} {small_unit}")
    }
}

/// A short length of time, by its largest unit: `340 ms`, `1.2 s`, then as [`duration`].
#[must_use]
pub fn milliseconds(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 => tenths(ms / 100, "s"),
        _ => duration(ms / 1_000),
    }
}

/// What a program wrote, without what only a terminal understands: colours and other escape
/// sequences, carriage returns, control characters.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => match rest.next() {
                // CSI: parameters, then one final letter.
                Some('[') => while rest.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                // OSC: to BEL or to ESC and a backslash.
                Some(']') => {
                    while let Some(c) = rest.next() {
                        if c == '\u{7}' || (c == '\u{1b}' && rest.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                // A choice of character set: one more letter.
                Some('(' | ')') => {
                    rest.next();
                }
                _ => {}
            },
            '\n' | '\t' => plain.push(c),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain
}

/// MiB, as `512 MiB` or `1.5 GiB`.
#[must_use]
pub fn mebibytes(mib: u64) -> String {
    if mib < 1_024 {
        format!("{mib} MiB")
    } else {
        tenths(mib * 10 / 1_024, "GiB")
    }
}

/// Bytes, as `12 B`, `3.4 KiB`, `1.5 GiB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    const TIB: u64 = 1 << 40;
    match bytes {
        0..KIB => format!("{bytes} B"),
        KIB..MIB => tenths(tenfold(bytes, KIB), "KiB"),
        MIB..GIB => tenths(tenfold(bytes, MIB), "MiB"),
        GIB..TIB => tenths(tenfold(bytes, GIB), "GiB"),
        _ => tenths(tenfold(bytes, TIB), "TiB"),
    }
}

/// How many tenths of `unit` there are, rounded down.
const fn tenfold(bytes: u64, unit: u64) -> u64 {
    // Apart, so that the largest number does not overflow.
    bytes / unit * 10 + bytes % unit * 10 / unit
}

/// `15 GiB` or `1.5 GiB`, from ten times the number.
fn tenths(tenths: u64, unit: &str) -> String {
    if tenths.is_multiple_of(10) || tenths >= 1_000 {
        format!("{} {unit}", tenths / 10)
    } else {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ago(seconds: i64) -> When {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        When {
            at: now - chrono::TimeDelta::seconds(seconds),
            now,
        }
    }

    #[test]
    fn times_are_said_by_their_largest_unit() {
        for (seconds, said) in [
            (0, "just now"),
            (42, "42 seconds ago"),
            (61, "1 minute ago"),
            (7_300, "2 hours ago"),
            (86_400 * 3, "3 days ago"),
            (-86_400 * 30, "in 30 days"),
            (86_400 * 60, "16 Nov 2026"),
        ] {
            assert_eq!(ago(seconds).relative(), said);
        }
        assert_eq!(ago(0).exact(), "15 January 2027, 08:00:00 UTC");
        assert_eq!(ago(0).iso(), "2027-01-15T08:00:00Z");
    }

    #[test]
    fn lengths_have_at_most_two_units() {
        for (seconds, said) in [
            (5, "5 s"),
            (60, "1 min"),
            (185, "3 min 5 s"),
            (7_260, "2 h 1 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(seconds), said);
        }
    }

    #[test]
    fn escape_sequences_are_not_shown() {
        let text = "\u{1b}[1;32mok\u{1b}[0m\tdone\r\n\u{1b}]0;title\u{7}next\u{1b}(B\u{8}!";
        assert_eq!(plain(text), "ok\tdone\nnext!");
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!(mebibytes(512), "512 MiB");
        assert_eq!(mebibytes(1_024), "1 GiB");
        assert_eq!(mebibytes(1_536), "1.5 GiB");
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1_536), "1.5 KiB");
        assert_eq!(bytes(300_000), "292 KiB");
        assert_eq!(bytes((1 << 20) - 1), "1023 KiB");
        assert_eq!(bytes(213 << 20), "213 MiB");
        assert_eq!(bytes(u64::MAX), "16777215 TiB");
    }
}
