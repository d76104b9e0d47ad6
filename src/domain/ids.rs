//! The identifiers of hzel: one newtype per noun over a canonical UUID (version 7, so that
//! sorting by id sorts by time).
//!
//! To add one more, add a line to the [`ids!`] call at the end of this file.

use chrono::{DateTime, Utc};
use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql};
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Text;

/// The text given is not a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnId;

/// A fresh UUID v7 for this moment, in its canonical text form.
#[must_use]
pub fn new_uuid(now: DateTime<Utc>) -> String {
    let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
    let stamp = uuid::Timestamp::from_unix(uuid::NoContext, seconds, now.timestamp_subsec_nanos());
    uuid::Uuid::new_v7(stamp).to_string()
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(
            Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize,
            diesel::expression::AsExpression, diesel::deserialize::FromSqlRow,
        )]
        #[diesel(sql_type = Text)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// A new id, later in sort order than all made before `now`.
            #[must_use]
            pub fn new(now: DateTime<Utc>) -> Self {
                Self(new_uuid(now))
            }

            /// The canonical, lower-case, hyphenated form.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = NotAnId;
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                // Only the hyphenated form: `try_parse` would also take braces and URNs, and two
                // spellings of one id are two cache keys and two log lines.
                if text.len() != 36 {
                    return Err(NotAnId);
                }
                uuid::Uuid::try_parse(text).map(|id| Self(id.to_string())).map_err(|_| NotAnId)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(d)?;
                text.parse().map_err(|_| serde::de::Error::custom("must be a UUID"))
            }
        }

        impl<DB> ToSql<Text, DB> for $name
        where
            DB: Backend,
            String: ToSql<Text, DB>,
        {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
                self.0.to_sql(out)
            }
        }

        impl<DB> FromSql<Text, DB> for $name
        where
            DB: Backend,
            String: FromSql<Text, DB>,
        {
            fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
                String::from_sql(bytes).map(Self)
            }
        }
    )+};
}

ids! {
    /// A person with an account.
    UserId,
    /// One sign-in of one browser.
    SessionId,
    /// A personal access token.
    TokenId,
    /// A Linux box.
    ContainerId,
    /// A command run in a container.
    CommandId,
    /// A piece of background work.
    JobId,
    /// An image that containers start from.
    ImageId,
    /// An entry of the audit log.
    AuditId,
    /// An application that asks users for access.
    AppId,
    /// What one user has allowed one application.
    AuthorizationId,
    /// All tokens that come from one authorization code.
    FamilyId,
    /// An application's access token.
    AccessTokenId,
    /// An application's refresh token.
    RefreshTokenId,
    /// An account elsewhere by which one here may sign in.
    IdentityId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_ids_sort_later() {
        let early = ContainerId::new(DateTime::from_timestamp(1_700_000_000, 0).unwrap());
        let late = ContainerId::new(DateTime::from_timestamp(1_700_000_001, 0).unwrap());
        assert!(early < late);
    }

    #[test]
    fn only_the_hyphenated_form_is_an_id() {
        let id = "0190b5a0-0000-7000-8000-000000000001";
        assert_eq!(id.parse::<ContainerId>().unwrap().as_str(), id);
        assert!(
            "0190b5a0000070008000000000000001"
                .parse::<ContainerId>()
                .is_err()
        );
        assert!("abc123".parse::<ContainerId>().is_err());
    }
}
