//! What `mmdebstrap` says, for people: how far it is, and why it failed.
//!
//! To have one more failure explained, look for its words in [`explain`].

use crate::runtime::native::images::problem::Problem;

/// What the last lines of a failed build say, for people.
pub(super) fn explain(lines: &[String]) -> Problem {
    let said = |text: &str| lines.iter().any(|line| line.contains(text));
    if said("No space left on device") {
        return Problem::NoSpace("the default image did not fit on the disk".into());
    }
    if said("Temporary failure resolving") || said("Could not resolve") {
        return Problem::Broken(
            "the names of the package mirrors in /etc/apt could not be resolved".into(),
        );
    }
    if said("Could not connect") || said("Unable to connect") || said("Connection timed out") {
        return Problem::Broken("the package mirrors in /etc/apt cannot be reached".into());
    }
    let error = lines.iter().rev().find_map(|line| line.strip_prefix("E: "));
    Problem::Broken(format!(
        "mmdebstrap failed: {}",
        error.unwrap_or("it gave no reason; the log has its output")
    ))
}

/// How far the build is, by what it says.
#[derive(Debug, Default)]
pub(super) struct Phase {
    /// Where this phase begins and ends, in percent.
    from: u8,
    to: u8,
    step: &'static str,
    /// Steps of this phase done, and expected.
    done: u32,
    expected: u32,
}

impl Phase {
    /// Takes one line; the step and its percentage when something changed.
    pub(super) fn advance(&mut self, line: &str) -> Option<(String, u8)> {
        const PHASES: [(&str, &str, u8, u8); 6] = [
            (
                "I: running apt-get update",
                "reading the package lists",
                1,
                8,
            ),
            (
                "I: downloading packages",
                "downloading the essential packages",
                8,
                22,
            ),
            (
                "I: extracting archives",
                "unpacking the essential packages",
                22,
                32,
            ),
            (
                "I: installing essential",
                "setting up the essential packages",
                32,
                45,
            ),
            (
                "I: installing remaining",
                "installing the other packages",
                45,
                92,
            ),
            ("I: cleaning", "cleaning up", 92, 93),
        ];
        if let Some((_, step, from, to)) = PHASES.iter().find(|phase| line.starts_with(phase.0)) {
            *self = Self {
                from: *from,
                to: *to,
                step,
                done: 0,
                expected: 0,
            };
            return Some(((*step).to_owned(), *from));
        }
        if let Some(count) = line.split(" newly installed").next().and_then(|before| {
            line.contains(" newly installed")
                .then(|| before.rsplit([' ', ',']).next()?.parse::<u32>().ok())?
        }) {
            // Each package is downloaded or found, unpacked and set up.
            self.expected = count * 3;
            return None;
        }
        let counts = ["Get:", "Unpacking ", "Setting up ", "extracting "];
        if !counts.iter().any(|start| line.starts_with(start)) || self.from == 0 {
            return None;
        }
        self.done += 1;
        let expected = if self.expected == 0 {
            300
        } else {
            self.expected
        };
        let width = u32::from(self.to - self.from);
        let done = u8::try_from(width * self.done.min(expected) / expected).unwrap_or_default();
        let step = match line.split_whitespace().nth(1) {
            Some(package) if !line.starts_with("Get:") => {
                let package = package.split(':').next().unwrap_or(package);
                let verb = if line.starts_with("Setting") {
                    line.split_whitespace().nth(2).unwrap_or(package)
                } else {
                    package
                };
                format!("{}: {}", self.step, verb.split(':').next().unwrap_or(verb))
            }
            _ => self.step.to_owned(),
        };
        Some((step, self.from + done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_only_goes_forward() {
        let mut phase = Phase::default();
        let mut before = 0;
        let mut lines = vec![
            "I: running apt-get update...".to_owned(),
            "Get:1 http://a b".into(),
        ];
        lines.push("I: installing remaining packages inside the chroot...".into());
        lines.push("0 upgraded, 4 newly installed, 0 to remove and 0 not upgraded.".into());
        lines.extend((0..20).map(|n| format!("Setting up p{n}:amd64 (1.0) ...")));
        lines.push("I: cleaning package lists and apt cache...".into());
        for line in lines {
            if let Some((_, percent)) = phase.advance(&line) {
                assert!(percent >= before && percent <= 94, "{line}: {percent}");
                before = percent;
            }
        }
        assert_eq!(before, 92);
    }

    #[test]
    fn failures_are_explained() {
        let lines = |text: &str| vec![text.to_owned(), "E: mmdebstrap failed to run".into()];
        assert!(matches!(
            explain(&lines("tar: x: Cannot write: No space left on device")),
            Problem::NoSpace(_)
        ));
        let Problem::Broken(said) = explain(&lines("Err:1 Temporary failure resolving 'x'")) else {
            panic!("not the source's fault")
        };
        assert!(said.contains("resolved"));
    }
}
