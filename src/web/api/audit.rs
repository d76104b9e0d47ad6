//! The audit log: everyone's for administrators, one's own for everybody.
//!
//! To show more of an entry, extend [`AuditEntryView`].

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::PageQuery;
use crate::domain::audit::{self, AuditEntry, LogQuery};
use crate::domain::ctx::Ctx;
use crate::error::Result;
use crate::web::extract::{Query, QueryWhole};
use crate::web::reply::Listed;

/// What somebody did or tried.
#[derive(Serialize, ToSchema)]
pub struct AuditEntryView {
    id: String,
    /// Whose doing it was; null for nobody known, and for hzel itself.
    user_id: Option<String>,
    container_id: Option<String>,
    /// Words with dots between, such as `container.start`.
    action: String,
    /// `success`, `failure` or `denied`.
    outcome: &'static str,
    /// What else is known: `request_id`, `address`, one of `session_id`, `token_id` and
    /// `access_token_id` for the credential, and what the action was about.
    #[schema(value_type = Object)]
    metadata: Map<String, Value>,
    created_at: String,
}

impl From<AuditEntry> for AuditEntryView {
    fn from(entry: AuditEntry) -> Self {
        Self {
            id: entry.id.to_string(),
            user_id: entry.user_id.map(|id| id.to_string()),
            container_id: entry.container_id,
            action: entry.action,
            outcome: entry.outcome.as_str(),
            metadata: entry.metadata,
            created_at: entry.created_at.rfc3339(),
        }
    }
}

/// Which entries.
#[derive(Deserialize)]
pub struct AuditQuery {
    user: Option<String>,
    container: Option<String>,
    action: Option<String>,
    outcome: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<QueryWhole>,
    cursor: Option<String>,
}

/// # Errors
/// As `audit::list`.
pub async fn list(ctx: Ctx, query: Query<AuditQuery>) -> Result<Listed<AuditEntryView>> {
    let AuditQuery {
        user,
        container,
        action,
        outcome,
        from,
        to,
        limit,
        cursor,
    } = query.0;
    let page = PageQuery { limit, cursor }.parse()?;
    let query = LogQuery {
        user,
        container,
        action,
        outcome,
        from,
        to,
    };
    let found = audit::list(&ctx, query, page).await?;
    Ok(Listed(found.map(AuditEntryView::from)))
}

/// # Errors
/// As `audit::list_own`.
pub async fn list_own(ctx: Ctx, query: Query<PageQuery>) -> Result<Listed<AuditEntryView>> {
    let found = audit::list_own(&ctx, query.0.parse()?).await?;
    Ok(Listed(found.map(AuditEntryView::from)))
}
