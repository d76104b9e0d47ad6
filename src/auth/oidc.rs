//! The OpenID Connect provider that people may sign in with: its metadata and keys, fetched when
//! they are first needed and again when a signature asks for a newer key, the address to send a
//! browser to, and who its answer says came back.
//!
//! To read another claim, add it to [`Identity`] and take it in [`Provider::identify`].

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreClaimName, CoreClaimType,
    CoreClientAuthMethod, CoreErrorResponseType, CoreGenderClaim, CoreGrantType, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreJwsSigningAlgorithm,
    CoreResponseMode, CoreResponseType, CoreRevocableToken, CoreRevocationErrorResponse,
    CoreSubjectIdentifierType, CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AccessTokenHash, AdditionalClaims, AdditionalProviderMetadata, AuthType, AuthorizationCode,
    ClaimsVerificationError, Client, ClientId, ClientSecret, CsrfToken, EmptyExtraTokenFields,
    IdTokenClaims, IdTokenFields, IssuerUrl, Nonce, OAuth2TokenResponse, PkceCodeChallenge,
    PkceCodeVerifier, ProviderMetadata, RedirectUrl, Scope, StandardErrorResponse,
    StandardTokenResponse, SubjectIdentifier, TokenResponse, UserInfoClaims,
};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

use super::secrets;
use crate::config::OidcConfig;
use crate::domain::time::Time;

/// Minutes after which the metadata is fetched anew.
const FRESH_MINUTES: i64 = 60;
/// How long one request to the provider may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer of the provider that is read, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;

/// What of the metadata openidconnect does not know by itself.
#[derive(Debug, Clone, Deserialize, Serialize)]
struct MoreMetadata {
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}
impl AdditionalProviderMetadata for MoreMetadata {}

/// Claims that are no standard ones.
#[derive(Debug, Clone, Deserialize, Serialize)]
struct MoreClaims(Map<String, Value>);
impl AdditionalClaims for MoreClaims {}

type Metadata = ProviderMetadata<
    MoreMetadata,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;
type Fields = IdTokenFields<
    MoreClaims,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;
type Answer = StandardTokenResponse<Fields, CoreTokenType>;
type Claims = IdTokenClaims<MoreClaims, CoreGenderClaim>;
type UserInfo = UserInfoClaims<MoreClaims, CoreGenderClaim>;
type Relying<Auth, Token, Info> = Client<
    MoreClaims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    Answer,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    Auth,
    openidconnect::EndpointNotSet,
    openidconnect::EndpointNotSet,
    openidconnect::EndpointNotSet,
    Token,
    Info,
>;
type Ready = Relying<
    openidconnect::EndpointSet,
    openidconnect::EndpointMaybeSet,
    openidconnect::EndpointMaybeSet,
>;

/// One way to the provider and back. Nonce and verifier come from what only the browser holds and
/// what only travels through the provider, so that nobody else need keep them.
pub struct Attempt {
    /// Travels through the provider.
    pub state: String,
    /// Stays in the browser's cookie.
    pub browser: String,
}

impl Attempt {
    fn derived(&self, what: &str) -> String {
        secrets::hash(&format!("hzel {what}\n{}\n{}", self.browser, self.state))
    }

    fn nonce(&self) -> Nonce {
        Nonce::new(self.derived("nonce"))
    }

    fn verifier(&self) -> PkceCodeVerifier {
        PkceCodeVerifier::new(self.derived("verifier"))
    }
}

/// Who the provider says came back.
#[derive(Debug, Clone)]
pub struct Identity {
    pub issuer: String,
    pub subject: String,
    pub email: Option<String>,
    pub email_verified: bool,
    pub name: Option<String>,
    /// Whether the claim that makes administrators is there; none when no claim does.
    pub is_admin: Option<bool>,
}

/// Why nobody is known.
#[derive(Debug)]
pub enum Refusal {
    /// The provider cannot be reached, or is not set up as it should be; for the log.
    Unreachable(String),
    /// Its answer is not to be believed; for the log.
    Untrusted(String),
}

/// See the module.
pub struct Provider {
    config: OidcConfig,
    issuer: IssuerUrl,
    redirect: RedirectUrl,
    http: Http,
    cached: Mutex<Option<(Arc<Metadata>, Time)>>,
}

impl Provider {
    /// # Errors
    /// A sentence, when no client can be made on this machine.
    pub fn new(config: OidcConfig, public_url: &Url) -> Result<Self, String> {
        let wrong = |e: &dyn std::fmt::Display| format!("HZEL_OIDC_ISSUER cannot be used: {e}");
        let issuer = IssuerUrl::new(config.issuer.clone()).map_err(|e| wrong(&e))?;
        let redirect = RedirectUrl::new(format!("{public_url}api/v1/auth/oidc/callback"))
            .map_err(|e| wrong(&e))?;
        // Its only failure is that it was done before.
        let _before = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            // A provider that redirects could send this server anywhere.
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .user_agent(concat!("hzel/", env!("CARGO_PKG_VERSION")));
        if issuer.url().scheme() == "http" {
            builder = builder.no_proxy();
        }
        let http = Http(builder.build().map_err(|e| wrong(&e))?);
        Ok(Self {
            config,
            issuer,
            redirect,
            http,
            cached: Mutex::default(),
        })
    }

    /// What the button to sign in says.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    async fn fetch(&self, now: Time) -> Result<Arc<Metadata>, Refusal> {
        // Compares the issuer, to the letter.
        let metadata = Metadata::discover_async(self.issuer.clone(), &self.http)
            .await
            .map_err(|e| Refusal::Unreachable(chain(&e)))?;
        let metadata = Arc::new(metadata);
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Arc::clone(&metadata), now));
        Ok(metadata)
    }

    async fn metadata(&self, now: Time) -> Result<Arc<Metadata>, Refusal> {
        let cached = self
            .cached
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match cached {
            Some((metadata, at)) if now.since(at) < TimeDelta::minutes(FRESH_MINUTES) => {
                Ok(metadata)
            }
            _ => self.fetch(now).await,
        }
    }

    fn client(&self, metadata: &Metadata) -> Ready {
        let secret = ClientSecret::new(self.config.client_secret.expose_secret().to_owned());
        let id = ClientId::new(self.config.client_id.clone());
        let methods = metadata.token_endpoint_auth_methods_supported();
        // Without a list it is `client_secret_basic`, as the specification has it.
        let posts = methods.is_some_and(|list| {
            !list.contains(&CoreClientAuthMethod::ClientSecretBasic)
                && list.contains(&CoreClientAuthMethod::ClientSecretPost)
        });
        Relying::from_provider_metadata(metadata.clone(), id, Some(secret))
            .set_redirect_uri(self.redirect.clone())
            .set_auth_type(if posts {
                AuthType::RequestBody
            } else {
                AuthType::BasicAuth
            })
    }

    /// Where to send the browser of that attempt; `again` has the provider ask who it is even when
    /// it knows.
    ///
    /// # Errors
    /// [`Refusal::Unreachable`].
    pub async fn authorize_url(
        &self,
        attempt: &Attempt,
        again: bool,
        now: Time,
    ) -> Result<Url, Refusal> {
        let metadata = self.metadata(now).await?;
        let (state, nonce) = (attempt.state.clone(), attempt.nonce());
        let client = self.client(&metadata);
        let mut request = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                move || CsrfToken::new(state),
                move || nonce,
            )
            .add_scope(Scope::new("email".into()))
            .add_scope(Scope::new("profile".into()))
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(
                &attempt.verifier(),
            ));
        if again {
            request = request.add_prompt(CoreAuthPrompt::Login);
        }
        Ok(request.url().0)
    }

    /// Whom the provider's answer to that attempt is about. `iss` is the answer's parameter of that
    /// name (RFC 9207).
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn identify(
        &self,
        attempt: &Attempt,
        code: &str,
        iss: Option<&str>,
        now: Time,
    ) -> Result<Identity, Refusal> {
        let metadata = self.metadata(now).await?;
        let says_issuer = metadata
            .additional_metadata()
            .authorization_response_iss_parameter_supported;
        if iss.map_or(says_issuer, |iss| iss != self.issuer.as_str()) {
            return Err(Refusal::Untrusted("the answer is another issuer's".into()));
        }
        let client = self.client(&metadata);
        let answer = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .map_err(|e| Refusal::Unreachable(chain(&e)))?
            .set_pkce_verifier(attempt.verifier())
            .request_async(&self.http)
            .await
            .map_err(|e| match &e {
                openidconnect::RequestTokenError::Request(_) => Refusal::Unreachable(chain(&e)),
                _ => Refusal::Untrusted(chain(&e)),
            })?;
        let claims = match verified(&client, &answer, attempt) {
            // The provider may have changed its keys since they were fetched.
            Err(ClaimsVerificationError::SignatureVerification(_)) => {
                let metadata = self.fetch(now).await?;
                verified(&self.client(&metadata), &answer, attempt)
            }
            other => other,
        }
        .map_err(|e| Refusal::Untrusted(chain(&e)))?;
        self.identity(&client, &answer, &claims).await
    }

    async fn identity(
        &self,
        client: &Ready,
        answer: &Answer,
        claims: &Claims,
    ) -> Result<Identity, Refusal> {
        let mut identity = Identity {
            issuer: self.issuer.as_str().to_owned(),
            subject: claims.subject().as_str().to_owned(),
            email: claims.email().map(|email| email.as_str().to_owned()),
            email_verified: claims.email_verified() == Some(true),
            name: claims
                .name()
                .and_then(|name| name.get(None))
                .map(|name| name.as_str().to_owned()),
            is_admin: self.is_admin(claims.additional_claims()),
        };
        // Many providers tell only at the userinfo endpoint what the scopes ask for.
        let wants_more = identity.email.is_none() || identity.is_admin == Some(false);
        if wants_more && let Some(info) = self.user_info(client, answer, claims.subject()).await? {
            if identity.email.is_none() {
                identity.email = info.email().map(|email| email.as_str().to_owned());
                identity.email_verified = info.email_verified() == Some(true);
            }
            if identity.name.is_none() {
                identity.name = info
                    .name()
                    .and_then(|name| name.get(None))
                    .map(|name| name.as_str().to_owned());
            }
            if identity.is_admin == Some(false) {
                identity.is_admin = self.is_admin(info.additional_claims());
            }
        }
        identity.email_verified |= self.config.trust_email;
        Ok(identity)
    }

    async fn user_info(
        &self,
        client: &Ready,
        answer: &Answer,
        subject: &SubjectIdentifier,
    ) -> Result<Option<UserInfo>, Refusal> {
        let token = answer.access_token().clone();
        // The subject must be the ID token's, or the answer is another person's.
        let Ok(request) = client.user_info(token, Some(subject.clone())) else {
            return Ok(None);
        };
        request
            .request_async(&self.http)
            .await
            .map(Some)
            .map_err(|e| Refusal::Untrusted(chain(&e)))
    }

    fn is_admin(&self, claims: &MoreClaims) -> Option<bool> {
        let (claim, wanted) = self.config.admin_claim.as_ref()?;
        let is = |value: &Value| value.as_str() == Some(wanted);
        Some(match claims.0.get(claim) {
            Some(Value::Array(values)) => values.iter().any(is),
            Some(Value::Bool(flag)) => flag.to_string() == *wanted,
            Some(value) => is(value),
            None => false,
        })
    }
}

/// The claims of the answer's ID token: signed by the provider with an asymmetric key, for us and
/// nobody else, not past, and asked for by this attempt.
fn verified(
    client: &Ready,
    answer: &Answer,
    attempt: &Attempt,
) -> Result<Claims, ClaimsVerificationError> {
    use CoreJwsSigningAlgorithm as Alg;
    let verifier = client.id_token_verifier().set_allowed_algs([
        Alg::RsaSsaPkcs1V15Sha256,
        Alg::RsaSsaPkcs1V15Sha384,
        Alg::RsaSsaPkcs1V15Sha512,
        Alg::RsaSsaPssSha256,
        Alg::RsaSsaPssSha384,
        Alg::RsaSsaPssSha512,
        Alg::EcdsaP256Sha256,
        Alg::EcdsaP384Sha384,
        Alg::EdDsa,
    ]);
    let other = |text: &str| ClaimsVerificationError::Other(text.to_owned());
    let token = answer
        .id_token()
        .ok_or_else(|| other("the answer has no ID token"))?;
    let claims = token.claims(&verifier, &attempt.nonce())?;
    if let Some(wanted) = claims.access_token_hash() {
        let given = AccessTokenHash::from_token(
            answer.access_token(),
            token
                .signing_alg()
                .map_err(ClaimsVerificationError::SignatureVerification)?,
            token
                .signing_key(&verifier)
                .map_err(ClaimsVerificationError::SignatureVerification)?,
        )
        .map_err(|e| other(&e.to_string()))?;
        if given != *wanted {
            return Err(other("the access token is not the ID token's"));
        }
    }
    Ok(claims.clone())
}

/// An error with its causes; openidconnect keeps tokens and secrets out of them.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// openidconnect's requests, over reqwest.
struct Http(reqwest::Client);

/// A request that got no answer.
#[derive(Debug, thiserror::Error)]
enum HttpError {
    #[error("{0}")]
    Failed(#[from] reqwest::Error),
    #[error("{0}")]
    Malformed(#[from] openidconnect::http::Error),
    #[error("the answer is too long")]
    TooLong,
    #[error("{0} is neither https nor on this machine")]
    Insecure(String),
}

type HttpAnswer = Result<openidconnect::HttpResponse, HttpError>;

impl<'c> openidconnect::AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = HttpAnswer> + Send + 'c>>;

    fn call(&'c self, request: openidconnect::HttpRequest) -> Self::Future {
        Box::pin(async move {
            let request: reqwest::Request = request.try_into()?;
            if !is_safe(request.url()) {
                let host = request.url().host_str().unwrap_or_default().to_owned();
                return Err(HttpError::Insecure(host));
            }
            let mut answer = self.0.execute(request).await?;
            let mut builder = openidconnect::http::Response::builder().status(answer.status());
            for (name, value) in answer.headers() {
                builder = builder.header(name, value);
            }
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await? {
                body.extend_from_slice(&chunk);
                if body.len() > MAX_ANSWER {
                    return Err(HttpError::TooLong);
                }
            }
            Ok(builder.body(body)?)
        })
    }
}

/// Whether secrets may go to that address: by https, or without leaving this machine.
#[must_use]
pub fn is_safe(url: &Url) -> bool {
    match url.host() {
        _ if url.scheme() == "https" => true,
        _ if url.scheme() != "http" => false,
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}
