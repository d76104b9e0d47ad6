//! The one error of hzel, in the language of the domain, and its table of codes and statuses.
//!
//! Nothing in here knows HTTP libraries: `web::error` renders an [`Error`] as an envelope or a
//! page. To add a kind of failure, add a variant to [`Error`]; the compiler then asks for its row
//! in [`Error::code`] and [`Error::message`]. A new code also wants its row in [`Code::status`].

use std::time::Duration;

use crate::db;
use crate::runtime::RuntimeError;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A field of the input that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field's name, as it is in the JSON and in the form.
    pub field: String,
    /// A sentence that names the field and the rule, such as `disk_gb must be between 18 and 32`.
    pub message: String,
}

/// Why hzel did not do what it was asked.
#[derive(Debug, Clone)]
pub enum Error {
    /// No credential, or one that is not valid.
    Unauthorized,
    /// A sign-in with a wrong address or a wrong password; which of them is not told.
    WrongPassword,
    /// The password was right, and the account wants a one-time code too.
    CodeNeeded,
    /// That code is wrong, or was used.
    WrongCode,
    /// A passkey that signs nobody in here.
    WrongPasskey,
    /// What is asked for wants the password again.
    Unproved,
    /// Who asks is known and may not; says why.
    Forbidden(String),
    /// A state-changing request on a session without that session's CSRF token.
    CsrfRejected,
    /// Fields that break rules.
    Validation(Vec<FieldError>),
    /// The input's structure is wrong; says what.
    BadRequest(String),
    /// No such thing; says what.
    NotFound(String),
    /// No such container, by the id as it was sent.
    ContainerNotFound(String),
    /// No such command, by the id as it was sent.
    CommandNotFound(String),
    /// The present state does not allow it; says which.
    Conflict(String),
    /// A quota is used up; names it.
    QuotaExceeded(String),
    /// The path exists, with other methods.
    MethodNotAllowed,
    /// The body is larger than `limit` bytes.
    PayloadTooLarge { limit: usize },
    /// The body's content type is not `expected`.
    UnsupportedMediaType { expected: &'static str },
    /// A part of a file was asked for of which the file, of `size` bytes, has nothing.
    RangeNotSatisfiable { size: u64 },
    /// Too many requests.
    RateLimited { retry_after: Duration },
    /// The container engine cannot work now.
    RuntimeUnavailable,
    /// The provider that people sign in with cannot be used now.
    ProviderUnavailable,
    /// The feature is off in this deployment; says which.
    NotImplemented(&'static str),
    /// Unexpected. The cause is for the log, never for the client.
    Internal { cause: String },
}

/// The codes of the API's envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    Unauthorized,
    Forbidden,
    CsrfRejected,
    ValidationFailed,
    BadRequest,
    NotFound,
    ContainerNotFound,
    CommandNotFound,
    Conflict,
    QuotaExceeded,
    MethodNotAllowed,
    PayloadTooLarge,
    UnsupportedMediaType,
    RangeNotSatisfiable,
    RateLimited,
    RuntimeUnavailable,
    NotImplemented,
    InternalError,
    ProviderUnavailable,
}

impl Code {
    /// Every code, for documentation.
    pub const ALL: [Self; 19] = [
        Self::Unauthorized,
        Self::Forbidden,
        Self::CsrfRejected,
        Self::ValidationFailed,
        Self::BadRequest,
        Self::NotFound,
        Self::ContainerNotFound,
        Self::CommandNotFound,
        Self::Conflict,
        Self::QuotaExceeded,
        Self::MethodNotAllowed,
        Self::PayloadTooLarge,
        Self::UnsupportedMediaType,
        Self::RangeNotSatisfiable,
        Self::RateLimited,
        Self::RuntimeUnavailable,
        Self::NotImplemented,
        Self::InternalError,
        Self::ProviderUnavailable,
    ];

    /// As it stands in the envelope.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Forbidden => "FORBIDDEN",
            Self::CsrfRejected => "CSRF_REJECTED",
            Self::ValidationFailed => "VALIDATION_FAILED",
            Self::BadRequest => "BAD_REQUEST",
            Self::NotFound => "NOT_FOUND",
            Self::ContainerNotFound => "CONTAINER_NOT_FOUND",
            Self::CommandNotFound => "COMMAND_NOT_FOUND",
            Self::Conflict => "CONFLICT",
            Self::QuotaExceeded => "QUOTA_EXCEEDED",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Self::UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE",
            Self::RangeNotSatisfiable => "RANGE_NOT_SATISFIABLE",
            Self::RateLimited => "RATE_LIMITED",
            Self::RuntimeUnavailable => "RUNTIME_UNAVAILABLE",
            Self::NotImplemented => "NOT_IMPLEMENTED",
            Self::InternalError => "INTERNAL_ERROR",
            Self::ProviderUnavailable => "PROVIDER_UNAVAILABLE",
        }
    }

    /// The HTTP status it is sent with.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::ValidationFailed | Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden | Self::CsrfRejected | Self::QuotaExceeded => 403,
            Self::NotFound | Self::ContainerNotFound | Self::CommandNotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict => 409,
            Self::PayloadTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::RangeNotSatisfiable => 416,
            Self::RateLimited => 429,
            Self::InternalError => 500,
            Self::NotImplemented => 501,
            Self::RuntimeUnavailable | Self::ProviderUnavailable => 503,
        }
    }
}

impl Error {
    /// One field that breaks a rule.
    pub fn field(field: &str, message: impl Into<String>) -> Self {
        Self::Validation(vec![FieldError {
            field: field.to_owned(),
            message: message.into(),
        }])
    }

    /// Something that should not happen; `cause` goes to the log.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        Self::Internal {
            cause: cause.to_string(),
        }
    }

    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Unauthorized
            | Self::WrongPassword
            | Self::CodeNeeded
            | Self::WrongCode
            | Self::WrongPasskey => Code::Unauthorized,
            Self::Forbidden(_) | Self::Unproved => Code::Forbidden,
            Self::CsrfRejected => Code::CsrfRejected,
            Self::Validation(_) => Code::ValidationFailed,
            Self::BadRequest(_) => Code::BadRequest,
            Self::NotFound(_) => Code::NotFound,
            Self::ContainerNotFound(_) => Code::ContainerNotFound,
            Self::CommandNotFound(_) => Code::CommandNotFound,
            Self::Conflict(_) => Code::Conflict,
            Self::QuotaExceeded(_) => Code::QuotaExceeded,
            Self::MethodNotAllowed => Code::MethodNotAllowed,
            Self::PayloadTooLarge { .. } => Code::PayloadTooLarge,
            Self::UnsupportedMediaType { .. } => Code::UnsupportedMediaType,
            Self::RangeNotSatisfiable { .. } => Code::RangeNotSatisfiable,
            Self::RateLimited { .. } => Code::RateLimited,
            Self::RuntimeUnavailable => Code::RuntimeUnavailable,
            Self::NotImplemented(_) => Code::NotImplemented,
            Self::Internal { .. } => Code::InternalError,
            Self::ProviderUnavailable => Code::ProviderUnavailable,
        }
    }

    /// The HTTP status of its code.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.code().status()
    }

    /// The fields that break rules, for showing each message beside its field.
    #[must_use]
    pub fn fields(&self) -> &[FieldError] {
        match self {
            Self::Validation(fields) => fields,
            _ => &[],
        }
    }

    /// How long to wait before trying again, where that is known.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => Some(*retry_after),
            Self::RuntimeUnavailable | Self::ProviderUnavailable => Some(Duration::from_secs(30)),
            _ => None,
        }
    }

    /// What the client reads. A 500's sentence is completed with the request id and the time where
    /// it is rendered, for only there they are known.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Unauthorized => "Authentication required".into(),
            Self::WrongPassword => "E-mail or password is wrong".into(),
            Self::CodeNeeded => "A one-time code is required".into(),
            Self::WrongCode => "The one-time code is wrong or was used".into(),
            Self::WrongPasskey => "This passkey signs nobody in here".into(),
            Self::Unproved => {
                "This asks for your password again: POST it to /api/v1/auth/confirm first".into()
            }
            Self::CsrfRejected => "A valid CSRF token is required for this request".into(),
            Self::Forbidden(text)
            | Self::BadRequest(text)
            | Self::NotFound(text)
            | Self::Conflict(text)
            | Self::QuotaExceeded(text) => text.clone(),
            Self::Validation(fields) => {
                let messages: Vec<&str> = fields.iter().map(|f| f.message.as_str()).collect();
                messages.join("; ")
            }
            Self::ContainerNotFound(id) => format!("Container {id} was not found"),
            Self::CommandNotFound(id) => format!("Command job {id} was not found"),
            Self::MethodNotAllowed => "This method is not allowed here".into(),
            Self::RangeNotSatisfiable { size } => {
                format!("The file has {size} bytes, and none of those that were asked for")
            }
            Self::PayloadTooLarge { limit } => {
                format!("The request body must not be larger than {limit} bytes")
            }
            Self::UnsupportedMediaType { expected } => {
                format!("The request body must be {expected}")
            }
            Self::RateLimited { retry_after } => {
                format!(
                    "Too many requests; try again in {} seconds",
                    retry_after.as_secs().max(1)
                )
            }
            Self::RuntimeUnavailable => "The container engine cannot be reached".into(),
            Self::NotImplemented(text) => (*text).into(),
            Self::ProviderUnavailable => "The sign-in provider cannot be reached".into(),
            Self::Internal { .. } => "Something went wrong on our side".into(),
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Internal { cause } => write!(f, "internal error: {cause}"),
            other => write!(f, "{}: {}", other.code().as_str(), other.message()),
        }
    }
}

impl std::error::Error for Error {}

/// A failure of the database that no query named (a taken name is matched where it can happen) is
/// nobody's fault who asks.
impl From<db::Failure> for Error {
    fn from(failure: db::Failure) -> Self {
        Self::Internal {
            cause: failure.to_string(),
        }
    }
}

impl Error {
    /// What a driver's failure is to who asked for it directly. Failures of background work become
    /// a container's `state_reason` instead.
    #[must_use]
    pub fn from_runtime(failure: RuntimeError) -> Self {
        match failure {
            RuntimeError::Unavailable(cause) => {
                tracing::warn!(%cause, "the container engine is unavailable");
                Self::RuntimeUnavailable
            }
            RuntimeError::NotRunning => Self::Conflict("The container is not running".into()),
            RuntimeError::NotFound => {
                Self::Conflict("The container has no disk on this machine".into())
            }
            RuntimeError::ImageMissing(name) => {
                Self::Conflict(format!("Image {name} is not available"))
            }
            other @ (RuntimeError::ImageBroken { .. }
            | RuntimeError::NoSpace(_)
            | RuntimeError::CannotRun(_)
            | RuntimeError::Timeout(_)) => Self::Conflict(other.to_string()),
            RuntimeError::Failed { what, cause } => Self::Internal {
                cause: format!("{what}: {cause}"),
            },
        }
    }
}
