//! Containers.
//!
//! To show more of a container, extend [`ContainerView`].

use actix_web::web::Path;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::whole_or;
use crate::domain::containers::{
    self, Container, ContainerMetrics, ContainerQuery, ContainerState, NewContainer,
};
use crate::domain::ctx::Ctx;
use crate::domain::page::PageRequest;
use crate::domain::time::Time;
use crate::error::{Error, Result};
use crate::web::extract::{Json, Query, QueryWhole, Whole};
use crate::web::reply::{Data, Listed, Reply};

/// Most lines of a console that are given at once.
const MAX_TAIL: i64 = 10_000;

/// What is asked for.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({ "hostname": "my-box", "cpu_cores": 1, "memory_mb": 512, "disk_gb": 18 }))]
pub struct NewContainerBody {
    /// 1 to 63 lower-case letters, digits and hyphens, unique on the platform.
    hostname: String,
    /// 1 to the machine's; 1 when none.
    cpu_cores: Option<Whole>,
    /// 128 to the machine's; 512 when none.
    memory_mb: Option<Whole>,
    /// 18 to 32; 18 when none.
    disk_gb: Option<Whole>,
    /// The default image when none.
    image: Option<String>,
    /// At most 50 OpenSSH public keys, for root.
    ssh_keys: Option<Vec<String>>,
    /// A script of at most 64 KiB that root runs at the first start.
    user_data: Option<String>,
}

impl From<NewContainerBody> for NewContainer {
    fn from(body: NewContainerBody) -> Self {
        let default = Self::default();
        Self {
            hostname: body.hostname,
            cpu_cores: whole_or(body.cpu_cores, default.cpu_cores),
            memory_mb: whole_or(body.memory_mb, default.memory_mb),
            disk_gb: whole_or(body.disk_gb, default.disk_gb),
            image: body.image,
            ssh_keys: body.ssh_keys.unwrap_or_default(),
            user_data: body.user_data,
        }
    }
}

/// A container.
#[derive(Serialize, ToSchema)]
pub struct ContainerView {
    id: String,
    user_id: String,
    hostname: String,
    /// The same as `hostname`.
    name: String,
    image: String,
    node_name: String,
    /// `provisioning`, `running`, `stopped`, `failed` or `deleting`.
    state: &'static str,
    /// Why, where that is worth telling.
    state_reason: Option<String>,
    cpu_cores: i32,
    memory_mb: i32,
    disk_gb: i32,
    ipv4: Option<String>,
    /// Bits of what the caller may do.
    permissions: i32,
    created_at: String,
    started_at: Option<String>,
}

impl From<Container> for ContainerView {
    fn from(container: Container) -> Self {
        Self {
            id: container.id.to_string(),
            user_id: container.user_id.to_string(),
            name: container.hostname.clone(),
            hostname: container.hostname,
            image: container.image,
            node_name: container.node_name,
            state: container.state.as_str(),
            state_reason: container.state_reason,
            cpu_cores: container.cpu_cores,
            memory_mb: container.memory_mb,
            disk_gb: container.disk_gb,
            ipv4: container.ipv4,
            permissions: container.permissions.bits(),
            created_at: container.created_at.rfc3339(),
            started_at: container.started_at.map(Time::rfc3339),
        }
    }
}

/// The end of a console.
#[derive(Serialize, ToSchema)]
pub struct LogsView {
    logs: String,
}

/// `?state=&q=&mine=&limit=&cursor=`.
#[derive(Debug, Deserialize)]
pub struct ListQuery {
    state: Option<String>,
    q: Option<String>,
    mine: Option<bool>,
    limit: Option<QueryWhole>,
    cursor: Option<String>,
}

impl ListQuery {
    fn parse(self) -> Result<ContainerQuery> {
        let state = self
            .state
            .filter(|text| !text.is_empty())
            .map(|text| {
                ContainerState::from_text(&text).ok_or_else(|| {
                    let all: Vec<&str> = ContainerState::ALL.iter().map(|s| s.as_str()).collect();
                    Error::field("state", format!("state must be one of {}", all.join(", ")))
                })
            })
            .transpose()?;
        Ok(ContainerQuery {
            state,
            q: self.q,
            mine: self.mine.unwrap_or_default(),
            page: PageRequest::parse(self.limit.map(|whole| whole.0), self.cursor.as_deref())?,
        })
    }
}

/// `?force=`.
#[derive(Debug, Deserialize)]
pub struct ForceQuery {
    force: Option<bool>,
}

/// `?tail=`.
#[derive(Debug, Deserialize)]
pub struct TailQuery {
    tail: Option<QueryWhole>,
}

/// # Errors
/// As `containers::list`.
pub async fn list(ctx: Ctx, query: Query<ListQuery>) -> Result<Listed<ContainerView>> {
    let page = containers::list(&ctx, query.0.parse()?).await?;
    Ok(Listed(page.map(ContainerView::from)))
}

/// # Errors
/// As `containers::create`.
pub async fn create(ctx: Ctx, body: Json<NewContainerBody>) -> Reply<ContainerView> {
    Ok(Data(containers::create(&ctx, body.0.into()).await?.into()))
}

/// # Errors
/// As `containers::get`.
pub async fn get(ctx: Ctx, id: Path<String>) -> Reply<ContainerView> {
    Ok(Data(containers::get(&ctx, &id).await?.into()))
}

/// # Errors
/// As `containers::start`.
pub async fn start(ctx: Ctx, id: Path<String>) -> Reply<ContainerView> {
    Ok(Data(containers::start(&ctx, &id).await?.into()))
}

/// # Errors
/// As `containers::stop`.
pub async fn stop(ctx: Ctx, id: Path<String>, query: Query<ForceQuery>) -> Reply<ContainerView> {
    Ok(Data(
        containers::stop(&ctx, &id, query.0.force.unwrap_or_default())
            .await?
            .into(),
    ))
}

/// # Errors
/// As `containers::restart`.
pub async fn restart(ctx: Ctx, id: Path<String>) -> Reply<ContainerView> {
    Ok(Data(containers::restart(&ctx, &id).await?.into()))
}

/// # Errors
/// As `containers::delete`.
pub async fn delete(ctx: Ctx, id: Path<String>, query: Query<ForceQuery>) -> Reply<&'static str> {
    containers::delete(&ctx, &id, query.0.force.unwrap_or_default()).await?;
    Ok(Data("deleted"))
}

/// # Errors
/// As `containers::metrics`.
pub async fn metrics(ctx: Ctx, id: Path<String>) -> Reply<ContainerMetrics> {
    Ok(Data(containers::metrics(&ctx, &id).await?))
}

/// # Errors
/// As `containers::logs`.
pub async fn logs(ctx: Ctx, id: Path<String>, query: Query<TailQuery>) -> Reply<LogsView> {
    let tail = query.0.tail.map_or(200, |whole| whole.0);
    let lines = usize::try_from(tail)
        .ok()
        .filter(|_| (1..=MAX_TAIL).contains(&tail))
        .ok_or_else(|| {
            let rule = format!("tail must be between 1 and {MAX_TAIL}");
            Error::field("tail", rule)
        });
    Ok(Data(LogsView {
        logs: containers::logs(&ctx, &id, lines).await?,
    }))
}
