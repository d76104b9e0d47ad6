//! Why an application gets no tokens, in the terms of RFC 6749 and in those of the API's envelope:
//! the form of the request decides which of them is sent.
//!
//! To add a reason, add a variant; the compiler asks for the rest.

use crate::error::Error;

/// See the module.
#[derive(Debug, Clone)]
pub enum Refused {
    /// A parameter is missing, repeated or not readable.
    Request {
        field: &'static str,
        message: String,
    },
    /// The application did not say which one it is.
    NoClient,
    /// No such application, or not its secret.
    Client,
    /// The code is not valid; says why.
    Code(&'static str),
    /// The refresh token is not valid.
    Refresh,
    /// A kind of grant that there is not.
    GrantType,
    /// More than was granted, or no scopes at all.
    Scope,
    /// The token was given to another application.
    AnothersToken,
    /// What has nothing to do with OAuth.
    Failed(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Refused {
    /// Whether it is about who asks or what they hold, not about the request's form.
    #[must_use]
    pub const fn is_denial(&self) -> bool {
        match self {
            Self::Client | Self::Code(_) | Self::Refresh | Self::Scope | Self::AnothersToken => {
                true
            }
            Self::Request { .. } | Self::NoClient | Self::GrantType | Self::Failed(_) => false,
        }
    }

    /// `error` of RFC 6749, 5.2, with its status.
    #[must_use]
    pub const fn code(&self) -> (&'static str, u16) {
        match self {
            Self::Request { .. } => ("invalid_request", 400),
            Self::NoClient | Self::Client => ("invalid_client", 401),
            Self::Code(_) | Self::Refresh | Self::AnothersToken => ("invalid_grant", 400),
            Self::GrantType => ("unsupported_grant_type", 400),
            Self::Scope => ("invalid_scope", 400),
            Self::Failed(error) => match error.status() {
                429 => ("temporarily_unavailable", 429),
                500.. => ("server_error", 500),
                status => ("invalid_request", status),
            },
        }
    }

    /// What the developer of the application reads.
    #[must_use]
    pub fn description(&self) -> String {
        match self {
            Self::Request { message, .. } => message.clone(),
            Self::NoClient => "client_id is required".into(),
            Self::Client => "The application is not known, or its secret is not right".into(),
            Self::Code(message) => (*message).into(),
            Self::Refresh => "refresh_token is not valid, expired, used or revoked".into(),
            Self::GrantType => {
                "grant_type must be \"authorization_code\" or \"refresh_token\"".into()
            }
            Self::Scope => "scope must be among the scopes that were granted".into(),
            Self::AnothersToken => "token was given to another application".into(),
            Self::Failed(error) => error.message(),
        }
    }

    /// For who sent JSON.
    #[must_use]
    pub fn into_error(self) -> Error {
        let message = self.description();
        match self {
            Self::Request { field, .. } => Error::field(field, message),
            Self::NoClient => Error::field("client_id", message),
            Self::Client | Self::Refresh => Error::Unauthorized,
            Self::Code(_) => Error::field("code", message),
            Self::GrantType => Error::field("grant_type", message),
            Self::Scope => Error::field("scope", message),
            Self::AnothersToken => Error::field("token", message),
            Self::Failed(error) => error,
        }
    }
}
