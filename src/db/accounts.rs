//! Queries that look at accounts from all sides, for administrators: what each has and how it signs
//! in. To tell one more fact, add it to [`Facts`] with its query in [`facts`].

use std::collections::HashMap;

use diesel::dsl::count_star;
use diesel::prelude::*;

use super::schema::{containers, oidc_identities, sessions, totp_factors};
use super::{Conn, Result};
use crate::domain::ids::UserId;
use crate::domain::time::Time;

/// What one account has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    pub sessions: i64,
    pub containers: i64,
    pub totp: bool,
    pub oidc: bool,
}

/// The facts of those users; sessions that are past at `now`, or idle since `idle_since`, are none.
pub fn facts(
    conn: &mut Conn,
    ids: &[UserId],
    now: Time,
    idle_since: Time,
) -> Result<HashMap<UserId, Facts>> {
    let mut facts: HashMap<UserId, Facts> = HashMap::new();
    let open: Vec<(UserId, i64)> = sessions::table
        .filter(sessions::user_id.eq_any(ids))
        .filter(sessions::expires_at.gt(now))
        .filter(sessions::last_seen_at.gt(idle_since))
        .group_by(sessions::user_id)
        .select((sessions::user_id, count_star()))
        .load(conn)?;
    for (id, count) in open {
        facts.entry(id).or_default().sessions = count;
    }
    let owned: Vec<(UserId, i64)> = containers::table
        .filter(containers::user_id.eq_any(ids))
        .group_by(containers::user_id)
        .select((containers::user_id, count_star()))
        .load(conn)?;
    for (id, count) in owned {
        facts.entry(id).or_default().containers = count;
    }
    let factors: Vec<UserId> = totp_factors::table
        .filter(totp_factors::user_id.eq_any(ids))
        .filter(totp_factors::confirmed_at.is_not_null())
        .select(totp_factors::user_id)
        .load(conn)?;
    for id in factors {
        facts.entry(id).or_default().totp = true;
    }
    let linked: Vec<UserId> = oidc_identities::table
        .filter(oidc_identities::user_id.eq_any(ids))
        .select(oidc_identities::user_id)
        .load(conn)?;
    for id in linked {
        facts.entry(id).or_default().oidc = true;
    }
    Ok(facts)
}
