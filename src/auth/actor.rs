//! The actor of a request or a job: who, with which credential, allowed what.
//!
//! To add a scope, add a word to [`Scope`] and name it at the routes that need it.

use crate::domain::ids::{AccessTokenId, AppId, SessionId, TokenId, UserId};
use crate::domain::text_enum::text_enum;
use crate::domain::users::Role;

text_enum! {
    /// What a token may be limited to.
    Scope {
        ContainersRead = "containers:read",
        ContainersWrite = "containers:write",
        Commands = "commands",
        Terminal = "terminal",
        Networks = "networks",
        Webhooks = "webhooks",
        Profile = "profile",
    }
}

text_enum! {
    /// How a caller proved who they are.
    AuthMethod {
        Session = "session",
        Oidc = "oidc",
        PersonalToken = "pat",
        OauthToken = "oauth",
    }
}

text_enum! {
    /// Which table a credential is in.
    CredentialKind {
        Session = "session",
        PersonalToken = "token",
        OauthToken = "access_token",
    }
}

/// The credential that a request came with.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Credential {
    Session {
        id: SessionId,
        csrf_token: CsrfToken,
    },
    PersonalToken {
        id: TokenId,
    },
    /// An application's access token: whoever the user is, it acts as `user`.
    OauthToken {
        id: AccessTokenId,
        app_id: AppId,
    },
}

impl Credential {
    #[must_use]
    pub const fn kind(&self) -> CredentialKind {
        match self {
            Self::Session { .. } => CredentialKind::Session,
            Self::PersonalToken { .. } => CredentialKind::PersonalToken,
            Self::OauthToken { .. } => CredentialKind::OauthToken,
        }
    }

    /// Of its row.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Session { id, .. } => id.as_str(),
            Self::PersonalToken { id } => id.as_str(),
            Self::OauthToken { id, .. } => id.as_str(),
        }
    }
}

/// A session's CSRF token; its text is not printed.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CsrfToken(pub String);

impl std::fmt::Debug for CsrfToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CsrfToken(…)")
    }
}

/// A user with the credential used.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Caller {
    pub user_id: UserId,
    pub email: String,
    pub display_name: String,
    pub role: Role,
    pub auth_method: AuthMethod,
    pub credential: Credential,
    /// None is the whole account.
    pub scopes: Option<Vec<Scope>>,
}

impl Caller {
    /// Whether a browser sends the credential by itself, so that a request may be another's doing.
    #[must_use]
    pub fn is_ambient(&self) -> bool {
        matches!(self.credential, Credential::Session { .. })
    }

    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.role == Role::Admin
    }

    /// Under what the limit of its requests is counted.
    #[must_use]
    pub fn limit_key(&self) -> String {
        match &self.credential {
            Credential::Session { id, .. } => format!("session:{id}"),
            Credential::PersonalToken { id } => format!("token:{id}"),
            // Its access tokens change every quarter of an hour.
            Credential::OauthToken { app_id, .. } => format!("app:{app_id}:{}", self.user_id),
        }
    }

    /// The session that asks, if it is one.
    #[must_use]
    pub fn session_id(&self) -> Option<&SessionId> {
        if let Credential::Session { id, .. } = &self.credential {
            Some(id)
        } else {
            None
        }
    }

    /// The CSRF token of the session that asks, if it is one.
    #[must_use]
    pub fn csrf_token(&self) -> Option<&str> {
        if let Credential::Session { csrf_token, .. } = &self.credential {
            Some(&csrf_token.0)
        } else {
            None
        }
    }

    #[must_use]
    pub fn has_scope(&self, scope: Scope) -> bool {
        self.scopes
            .as_ref()
            .is_none_or(|scopes| scopes.contains(&scope))
    }
}

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// Nobody that is known.
    Anonymous,
    Caller(Box<Caller>),
    /// hzel itself: the reconciler, or the operator at the command line. The word says which.
    System(&'static str),
}
