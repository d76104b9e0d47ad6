//! Who a process in a container runs as, by the container's own user database, which the tenant writes.
//!
//! A number that the container does not have is nobody's: the last of all means "as it is" to the
//! kernel, and a process that is given it stays what it was before, root of the machine.

use super::state::IDS;

/// A user to run as, in the container's ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    pub name: String,
    pub home: String,
    /// The login shell, if the database names one.
    pub shell: Option<String>,
}

impl Identity {
    /// Finds `wanted`, a name or a number, in the texts of `/etc/passwd` and `/etc/group`. A number
    /// needs no entry.
    pub(super) fn find(wanted: &str, passwd: &str, group: &str) -> Option<Self> {
        let number: Option<u32> = wanted.parse().ok();
        if number.is_some_and(|number| number >= IDS) {
            return None;
        }
        let entry = passwd
            .lines()
            .filter_map(Entry::parse)
            .find(|entry| match number {
                Some(uid) => entry.uid == uid,
                None => entry.name == wanted,
            });
        match (entry, number) {
            (Some(entry), _) => Some(Self {
                uid: entry.uid,
                gid: entry.gid,
                groups: groups_of(entry.name, group),
                name: entry.name.to_owned(),
                home: if entry.home.is_empty() {
                    "/".into()
                } else {
                    entry.home.to_owned()
                },
                shell: Some(entry.shell.to_owned()).filter(|shell| !shell.is_empty()),
            }),
            (None, Some(uid)) => Some(Self {
                uid,
                gid: uid,
                groups: Vec::new(),
                name: uid.to_string(),
                home: "/".into(),
                shell: None,
            }),
            // A container without a user database still has a root.
            (None, None) if wanted == "root" => Some(Self {
                uid: 0,
                gid: 0,
                groups: Vec::new(),
                name: "root".into(),
                home: "/root".into(),
                shell: None,
            }),
            (None, None) => None,
        }
    }
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
    shell: &'a str,
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = fields.nth(1).and_then(id)?;
        let gid = fields.next().and_then(id)?;
        let home = fields.nth(1).unwrap_or_default();
        let shell = fields.next().unwrap_or_default();
        Some(Self {
            name,
            uid,
            gid,
            home,
            shell,
        })
    }
}

/// A number that a container has.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id < IDS)
}

fn groups_of(user: &str, group: &str) -> Vec<u32> {
    group
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let gid = fields.nth(2).and_then(id)?;
            fields
                .next()?
                .split(',')
                .any(|member| member.trim() == user)
                .then_some(gid)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbroken\n\
        ada:x:1000:1001:Ada,,,:/home/ada:/bin/sh\nhomeless:x:7:7::\n";
    #[test]
    fn nobody_is_a_number_that_the_container_does_not_have() {
        for number in ["65536", "4294967294", "4294967295", "4294967296", "-1"] {
            assert_eq!(Identity::find(number, PASSWD, GROUP), None, "{number}");
        }
        let forged = "root:x:0:4294967295::/:/bin/sh\nada:x:4294967295:0::/:/bin/sh\n\
            gx:x:0:65536::/:/bin/sh\nbob:x:7:7::/:/bin/sh\n";
        for name in ["ada", "gx"] {
            assert_eq!(Identity::find(name, forged, GROUP), None, "{name}");
        }
        let root = Identity::find("root", forged, GROUP).unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        let groups = "a:x:4294967295:bob\nb:x:65536:bob\nc:x:65535:bob\n";
        assert_eq!(
            Identity::find("bob", forged, groups).unwrap().groups,
            [65_535]
        );
    }

    const GROUP: &str = "root:x:0:\nsudo:x:27:bob,ada\naudio:x:29:bob\nada:x:1001:\n";

    #[test]
    fn names_and_numbers_lead_to_the_same_user() {
        let ada = Identity::find("ada", PASSWD, GROUP).unwrap();
        assert_eq!(
            (ada.uid, ada.gid, ada.home.as_str()),
            (1000, 1001, "/home/ada")
        );
        assert_eq!(ada.groups, [27]);
        assert_eq!(ada.shell.as_deref(), Some("/bin/sh"));
        assert_eq!(Identity::find("1000", PASSWD, GROUP).unwrap(), ada);
    }

    #[test]
    fn an_unknown_number_is_a_user_and_an_unknown_name_is_none() {
        assert_eq!(Identity::find("4242", PASSWD, GROUP).unwrap().home, "/");
        assert_eq!(Identity::find("eve", PASSWD, GROUP), None);
        assert_eq!(Identity::find("homeless", PASSWD, GROUP).unwrap().home, "/");
        assert_eq!(
            Identity::find("homeless", PASSWD, GROUP).unwrap().shell,
            None
        );
    }

    #[test]
    fn root_needs_no_database() {
        assert_eq!(Identity::find("root", "", "").unwrap().home, "/root");
    }
}
