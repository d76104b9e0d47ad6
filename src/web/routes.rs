//! The one table of routes: what is served, who may ask, what a token needs, what is audited, and
//! what the documentation says. Routing, the gate, OpenAPI and the tests of refusals all read it.
//!
//! To add a route, add a line. A page's lines have no documentation; the API's must.

use actix_web::http::header;
use actix_web::middleware::from_fn;
use actix_web::{HttpRequest, HttpResponse, Resource, Route, guard, web};

use super::api::{
    admin, auth, commands, containers, health, images, oauth, oauth_token, oidc, passkeys,
    sessions, tokens, totp,
};
use super::error::{response, unknown_route};
use super::openapi::{self, Doc, Shape};
use super::pages::containers::{act, detail, list, new};
use super::pages::{self, account, activity, shell, sign_in, styleguide, users, ways};
use super::{assets, gate};
use crate::auth::actor::Scope;
use crate::domain::audit::Action;
use crate::error::{Error, Result};

/// The methods that routes have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Answers HEAD too.
    Get,
    Post,
    Patch,
    Delete,
}

impl Verb {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    fn route(self) -> Route {
        match self {
            Self::Get => web::route().guard(guard::Any(guard::Get()).or(guard::Head())),
            Self::Post => web::post(),
            Self::Patch => web::patch(),
            Self::Delete => web::delete(),
        }
    }
}

/// Who may ask at all; what they may do is the domain's to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Anyone,
    /// Any credential.
    Any,
    /// Any but an OAuth application's token.
    Direct,
    /// A signed-in browser only.
    Session,
}

/// What kind of thing a route serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    Api,
    Page,
    /// For machines that watch, outside the API's path.
    Probe,
}

/// One route.
pub struct Endpoint {
    pub verb: Verb,
    pub path: &'static str,
    pub surface: Surface,
    pub access: Access,
    /// What a limited token needs.
    pub scope: Option<Scope>,
    /// What a refused or failed request is recorded as.
    pub action: Option<Action>,
    pub doc: Option<Doc>,
    handler: fn(Route) -> Route,
}

impl Endpoint {
    const fn new(
        verb: Verb,
        path: &'static str,
        surface: Surface,
        access: Access,
        handler: fn(Route) -> Route,
    ) -> Self {
        Self {
            verb,
            path,
            surface,
            access,
            scope: None,
            action: None,
            doc: None,
            handler,
        }
    }

    const fn api(
        verb: Verb,
        path: &'static str,
        access: Access,
        handler: fn(Route) -> Route,
    ) -> Self {
        Self::new(verb, path, Surface::Api, access, handler)
    }

    const fn page(
        verb: Verb,
        path: &'static str,
        access: Access,
        handler: fn(Route) -> Route,
    ) -> Self {
        Self::new(verb, path, Surface::Page, access, handler)
    }

    const fn probe(path: &'static str, handler: fn(Route) -> Route) -> Self {
        Self::new(Verb::Get, path, Surface::Probe, Access::Anyone, handler)
    }

    const fn scope(mut self, scope: Scope) -> Self {
        self.scope = Some(scope);
        self
    }

    const fn action(mut self, action: Action) -> Self {
        self.action = Some(action);
        self
    }

    const fn doc(mut self, doc: Doc) -> Self {
        self.doc = Some(doc);
        self
    }
}

use Access::{Any, Anyone, Direct, Session};
use Verb::{Delete, Get, Patch, Post};

/// Every route of the API and the probes.
pub const API: &[Endpoint] = &[
    Endpoint::probe("/healthz", |r| r.to(health::alive)),
    Endpoint::probe("/readyz", |r| r.to(health::ready)),
    Endpoint::probe("/openapi.json", |r| r.to(openapi::serve)),
    Endpoint::api(Get, "/api/v1/healthz", Anyone, |r| r.to(health::alive))
        .doc(Doc::new("Whether the server is alive").answers(Shape::of::<health::Alive>())),
    Endpoint::api(Get, "/api/v1/readyz", Anyone, |r| r.to(health::ready)).doc(
        Doc::new("Whether the database and the container engine can be reached")
            .answers(Shape::of::<health::Ready>()),
    ),
    Endpoint::api(Get, "/api/v1/openapi.json", Anyone, |r| {
        r.to(openapi::serve)
    })
    .doc(Doc::new("This document")),
    Endpoint::api(Post, "/api/v1/auth/login", Anyone, |r| r.to(auth::login)).doc(
        Doc::new("Signs in and sets the session cookie")
            .takes(Shape::of::<auth::LoginBody>())
            .answers(Shape::of::<auth::SessionAnswer>()),
    ),
    Endpoint::api(Post, "/api/v1/auth/logout", Session, |r| r.to(auth::logout))
        .action(Action::Logout)
        .doc(Doc::new("Ends this session").answers(Shape::of::<String>())),
    Endpoint::api(Get, "/api/v1/auth/session", Session, |r| {
        r.to(auth::session)
    })
    .doc(
        Doc::new("This session, its user and its CSRF token")
            .answers(Shape::of::<auth::SessionAnswer>()),
    ),
    Endpoint::api(Get, "/api/v1/auth/me", Any, |r| r.to(auth::me)).doc(
        Doc::new("Who the credential belongs to, and what it may do")
            .answers(Shape::of::<auth::MeView>()),
    ),
    Endpoint::api(Get, "/api/v1/auth/sessions", Session, |r| {
        r.to(sessions::list)
    })
    .doc(
        Doc::new("One's own sign-ins, newest first")
            .answers(Shape::list::<sessions::SessionView>()),
    ),
    Endpoint::api(Delete, "/api/v1/auth/sessions/{id}", Session, |r| {
        r.to(sessions::end)
    })
    .action(Action::SessionEnd)
    .doc(Doc::new("Ends one of one's own sign-ins").answers(Shape::of::<String>())),
    Endpoint::api(Post, "/api/v1/auth/password", Session, |r| {
        r.to(sessions::change_password)
    })
    .action(Action::PasswordChange)
    .doc(
        Doc::new("Changes one's password and ends one's other sessions")
            .takes(Shape::of::<sessions::PasswordBody>())
            .answers(Shape::of::<String>()),
    ),
    Endpoint::api(Get, "/api/v1/auth/oidc/authorize", Anyone, |r| {
        r.to(oidc::authorize)
    })
    .doc(
        Doc::new("Sends the browser to sign in with OpenID Connect")
            .query(&["next"])
            .redirects(),
    ),
    Endpoint::api(Get, "/api/v1/auth/oidc/callback", Anyone, |r| {
        r.to(oidc::callback)
    })
    .doc(
        Doc::new("Where the provider sends the browser; begins a session and sends it on")
            .query(&["state", "code", "iss", "error"])
            .redirects(),
    ),
    Endpoint::api(Get, "/api/v1/tokens", Direct, |r| r.to(tokens::list))
        .scope(Scope::Profile)
        .doc(
            Doc::new("One's own personal access tokens that are not revoked, newest first")
                .pages()
                .answers(Shape::list::<tokens::TokenView>()),
        ),
    Endpoint::api(Post, "/api/v1/tokens", Direct, |r| r.to(tokens::create))
        .scope(Scope::Profile)
        .action(Action::TokenCreate)
        .doc(
            Doc::new("Makes a personal access token; its secret is in this answer only")
                .takes(Shape::of::<tokens::NewTokenBody>())
                .answers(Shape::of::<tokens::TokenView>()),
        ),
    Endpoint::api(Delete, "/api/v1/tokens/{id}", Direct, |r| {
        r.to(tokens::revoke)
    })
    .scope(Scope::Profile)
    .action(Action::TokenRevoke)
    .doc(Doc::new("Revokes a token at once").answers(Shape::of::<String>())),
    Endpoint::api(Get, "/api/v1/images", Any, |r| r.to(images::list))
        .scope(Scope::ContainersRead)
        .doc(
            Doc::new("The images that containers can be made from, with their progress")
                .answers(Shape::list::<images::ImageView>()),
        ),
    Endpoint::api(Post, "/api/v1/images", Any, |r| r.to(images::add))
        .scope(Scope::ContainersWrite)
        .action(Action::ImageAdd)
        .doc(
            Doc::new("Has an image made (administrators)")
                .takes(Shape::of::<images::NewImageBody>())
                .answers(Shape::of::<images::ImageView>()),
        ),
    Endpoint::api(Delete, "/api/v1/images/{name}", Any, |r| {
        r.to(images::remove)
    })
    .scope(Scope::ContainersWrite)
    .action(Action::ImageRemove)
    .doc(Doc::new("Removes an unused image (administrators)").answers(Shape::of::<String>())),
    Endpoint::api(Get, "/api/v1/containers", Any, |r| r.to(containers::list))
        .scope(Scope::ContainersRead)
        .doc(
            Doc::new("One's own containers, newest first; for administrators everyone's")
                .pages()
                .query(&["state", "q", "mine"])
                .answers(Shape::list::<containers::ContainerView>()),
        ),
    Endpoint::api(Post, "/api/v1/containers", Any, |r| {
        r.to(containers::create)
    })
    .scope(Scope::ContainersWrite)
    .action(Action::ContainerCreate)
    .doc(
        Doc::new("Asks for a container; it is then made and started")
            .takes(Shape::of::<containers::NewContainerBody>())
            .answers(Shape::of::<containers::ContainerView>()),
    ),
    Endpoint::api(Get, "/api/v1/containers/{id}", Any, |r| {
        r.to(containers::get)
    })
    .scope(Scope::ContainersRead)
    .doc(Doc::new("One container").answers(Shape::of::<containers::ContainerView>())),
    Endpoint::api(Delete, "/api/v1/containers/{id}", Any, |r| {
        r.to(containers::delete)
    })
    .scope(Scope::ContainersWrite)
    .action(Action::ContainerDelete)
    .doc(
        Doc::new("Deletes a container with its disk")
            .query(&["force"])
            .answers(Shape::of::<String>()),
    ),
    Endpoint::api(Post, "/api/v1/containers/{id}/start", Any, |r| {
        r.to(containers::start)
    })
    .scope(Scope::ContainersWrite)
    .action(Action::ContainerStart)
    .doc(
        Doc::new("Starts a container and waits for it")
            .answers(Shape::of::<containers::ContainerView>()),
    ),
    Endpoint::api(Post, "/api/v1/containers/{id}/stop", Any, |r| {
        r.to(containers::stop)
    })
    .scope(Scope::ContainersWrite)
    .action(Action::ContainerStop)
    .doc(
        Doc::new("Stops a container, at once with force, and waits for it")
            .query(&["force"])
            .answers(Shape::of::<containers::ContainerView>()),
    ),
    Endpoint::api(Post, "/api/v1/containers/{id}/restart", Any, |r| {
        r.to(containers::restart)
    })
    .scope(Scope::ContainersWrite)
    .action(Action::ContainerRestart)
    .doc(
        Doc::new("Stops and starts a container and waits for it")
            .answers(Shape::of::<containers::ContainerView>()),
    ),
    Endpoint::api(Get, "/api/v1/containers/{id}/metrics", Any, |r| {
        r.to(containers::metrics)
    })
    .scope(Scope::ContainersRead)
    .doc(
        Doc::new("What a container uses now")
            .answers(Shape::of::<crate::domain::containers::ContainerMetrics>()),
    ),
    Endpoint::api(Get, "/api/v1/containers/{id}/logs", Any, |r| {
        r.to(containers::logs)
    })
    .scope(Scope::ContainersRead)
    .doc(
        Doc::new("The last lines of its init's console")
            .query(&["tail"])
            .answers(Shape::of::<containers::LogsView>()),
    ),
    Endpoint::api(Get, "/api/v1/containers/{id}/commands", Any, |r| {
        r.to(commands::list)
    })
    .scope(Scope::Commands)
    .doc(
        Doc::new("A container's commands, newest first, with the beginning of their output")
            .pages()
            .answers(Shape::list::<commands::CommandView>()),
    ),
    Endpoint::api(Post, "/api/v1/containers/{id}/commands", Any, |r| {
        r.to(commands::create)
    })
    .scope(Scope::Commands)
    .action(Action::CommandCreate)
    .doc(
        Doc::new("Runs a command in a running container")
            .takes(Shape::of::<commands::NewCommandBody>())
            .answers(Shape::of::<commands::CommandView>()),
    ),
    Endpoint::api(Get, "/api/v1/commands/{id}", Any, |r| r.to(commands::get))
        .scope(Scope::Commands)
        .doc(
            Doc::new("One command; with wait_seconds, as soon as it is over")
                .query(&["wait_seconds"])
                .answers(Shape::of::<commands::CommandView>()),
        ),
    Endpoint::api(Post, "/api/v1/commands/{id}/cancel", Any, |r| {
        r.to(commands::cancel)
    })
    .scope(Scope::Commands)
    .action(Action::CommandCancel)
    .doc(
        Doc::new("Ends a command that waits or runs").answers(Shape::of::<commands::CommandView>()),
    ),
    Endpoint::api(Post, "/api/v1/auth/reset", Anyone, |r| {
        r.to(sessions::reset_password)
    })
    .doc(
        Doc::new("Chooses a password by a one-time link, and ends the account's sessions")
            .takes(Shape::of::<sessions::ResetBody>())
            .answers(Shape::of::<String>()),
    ),
    Endpoint::api(Post, "/api/v1/auth/confirm", Session, |r| {
        r.to(sessions::confirm)
    })
    .action(Action::Confirm)
    .doc(
        Doc::new("Takes the password for the sensitive requests of the next 30 minutes")
            .takes(Shape::of::<sessions::ConfirmBody>())
            .answers(Shape::of::<String>()),
    ),
    Endpoint::api(Get, "/api/v1/auth/passkeys", Session, |r| {
        r.to(passkeys::list)
    })
    .doc(Doc::new("One's own passkeys").answers(Shape::list::<passkeys::PasskeyView>())),
    Endpoint::api(Post, "/api/v1/auth/passkeys/start", Session, |r| {
        r.to(passkeys::start)
    })
    .action(Action::PasskeyAdd)
    .doc(
        Doc::new("Begins to make a passkey; what to ask the device is in the answer")
            .answers(Shape::of::<passkeys::AskedView>()),
    ),
    Endpoint::api(Post, "/api/v1/auth/passkeys", Session, |r| {
        r.to(passkeys::finish)
    })
    .action(Action::PasskeyAdd)
    .doc(
        Doc::new("Makes a passkey of the device's answer")
            .takes(Shape::of::<passkeys::NewPasskeyBody>())
            .answers(Shape::of::<passkeys::PasskeyView>()),
    ),
    Endpoint::api(Delete, "/api/v1/auth/passkeys/{id}", Session, |r| {
        r.to(passkeys::remove)
    })
    .action(Action::PasskeyRemove)
    .doc(Doc::new("Removes a passkey").answers(Shape::of::<String>())),
    Endpoint::api(Post, "/api/v1/auth/login/passkey/start", Anyone, |r| {
        r.to(passkeys::start_login)
    })
    .doc(Doc::new("Begins to sign in with a passkey").answers(Shape::of::<passkeys::AskedView>())),
    Endpoint::api(Post, "/api/v1/auth/login/passkey", Anyone, |r| {
        r.to(passkeys::login)
    })
    .doc(
        Doc::new("Signs in with the device's answer and sets the session cookie")
            .takes(Shape::of::<passkeys::PasskeyLoginBody>())
            .answers(Shape::of::<auth::SessionAnswer>()),
    ),
    Endpoint::api(Get, "/api/v1/auth/totp", Session, |r| r.to(totp::get)).doc(
        Doc::new("Whether signing in wants a one-time code")
            .answers(Shape::of::<totp::FactorView>()),
    ),
    Endpoint::api(Post, "/api/v1/auth/totp", Session, |r| r.to(totp::start))
        .action(Action::TotpStart)
        .doc(
            Doc::new("Begins to turn one-time codes on; the seed is in this answer only")
                .answers(Shape::of::<totp::SetupView>()),
        ),
    Endpoint::api(Post, "/api/v1/auth/totp/confirm", Session, |r| {
        r.to(totp::confirm)
    })
    .action(Action::TotpEnable)
    .doc(
        Doc::new("Turns one-time codes on, given one; answers the codes for recovery")
            .takes(Shape::of::<totp::CodeBody>())
            .answers(Shape::of::<totp::RecoveryView>()),
    ),
    Endpoint::api(Post, "/api/v1/auth/totp/recovery", Session, |r| {
        r.to(totp::renew)
    })
    .action(Action::TotpRecovery)
    .doc(
        Doc::new("Makes new codes for recovery; the old ones are void")
            .takes(Shape::of::<totp::AgainBody>())
            .answers(Shape::of::<totp::RecoveryView>()),
    ),
    Endpoint::api(Delete, "/api/v1/auth/totp", Session, |r| {
        r.to(totp::disable)
    })
    .action(Action::TotpDisable)
    .doc(
        Doc::new("Turns one-time codes off")
            .takes(Shape::of::<totp::AgainBody>())
            .answers(Shape::of::<String>()),
    ),
    Endpoint::api(Get, "/api/v1/auth/oidc/identities", Session, |r| {
        r.to(oidc::list)
    })
    .doc(
        Doc::new("One's own accounts at OpenID Connect providers")
            .answers(Shape::list::<oidc::IdentityView>()),
    ),
    Endpoint::api(Post, "/api/v1/auth/oidc/link", Session, |r| {
        r.to(oidc::link)
    })
    .action(Action::OidcLink)
    .doc(
        Doc::new("Begins to link an account at the provider; the browser goes on to the answer")
            .answers(Shape::of::<oidc::LinkAnswer>()),
    ),
    Endpoint::api(Delete, "/api/v1/auth/oidc/identities/{id}", Session, |r| {
        r.to(oidc::unlink)
    })
    .action(Action::OidcUnlink)
    .doc(Doc::new("Unlinks an account at a provider").answers(Shape::of::<String>())),
    Endpoint::api(Get, "/api/v1/admin/users", Direct, |r| r.to(admin::list)).doc(
        Doc::new("Every account, newest first (administrators)")
            .pages()
            .query(&["q", "role", "status"])
            .answers(Shape::list::<admin::AccountView>()),
    ),
    Endpoint::api(Post, "/api/v1/admin/users", Direct, |r| r.to(admin::create))
        .action(Action::UserCreate)
        .doc(
            Doc::new("Makes an account; without a password, with a link to choose one")
                .takes(Shape::of::<admin::NewAccountBody>())
                .answers(Shape::of::<admin::AccountView>()),
        ),
    Endpoint::api(Get, "/api/v1/admin/users/{id}", Direct, |r| {
        r.to(admin::get)
    })
    .doc(Doc::new("One account (administrators)").answers(Shape::of::<admin::AccountView>())),
    Endpoint::api(Patch, "/api/v1/admin/users/{id}", Direct, |r| {
        r.to(admin::change)
    })
    .action(Action::UserChange)
    .doc(
        Doc::new("Changes an account's name, role or status (administrators)")
            .takes(Shape::of::<admin::ChangeBody>())
            .answers(Shape::of::<admin::AccountView>()),
    ),
    Endpoint::api(Post, "/api/v1/admin/users/{id}/reset", Direct, |r| {
        r.to(admin::reset)
    })
    .action(Action::UserReset)
    .doc(
        Doc::new("Makes a one-time link, good for 24 hours, to choose a new password")
            .answers(Shape::of::<admin::LinkView>()),
    ),
    Endpoint::api(Get, "/api/v1/admin/users/{id}/sessions", Direct, |r| {
        r.to(admin::sessions)
    })
    .doc(
        Doc::new("An account's sign-ins, newest first (administrators)")
            .answers(Shape::list::<sessions::SessionView>()),
    ),
    Endpoint::api(Delete, "/api/v1/admin/users/{id}/sessions", Direct, |r| {
        r.to(admin::end_sessions)
    })
    .action(Action::UserSessionsEnd)
    .doc(
        Doc::new("Ends all of an account's sign-ins but the one that asks")
            .answers(Shape::of::<admin::EndedView>()),
    ),
    Endpoint::api(
        Delete,
        "/api/v1/admin/users/{id}/sessions/{session_id}",
        Direct,
        |r| r.to(admin::end_session),
    )
    .action(Action::SessionEnd)
    .doc(
        Doc::new("Ends one of an account's sign-ins (administrators)")
            .answers(Shape::of::<String>()),
    ),
    Endpoint::api(Delete, "/api/v1/admin/users/{id}/totp", Direct, |r| {
        r.to(admin::remove_totp)
    })
    .action(Action::UserTotpRemove)
    .doc(Doc::new("Turns an account's one-time codes off").answers(Shape::of::<String>())),
    // Before the application's own: `public` is no id.
    Endpoint::api(Get, "/api/v1/oauth/apps/public/{client_id}", Anyone, |r| {
        r.to(oauth::get_public)
    })
    .doc(
        Doc::new("What everyone may know of an application")
            .answers(Shape::of::<oauth::PublicAppView>()),
    ),
    Endpoint::api(Get, "/api/v1/oauth/apps", Direct, |r| r.to(oauth::list))
        .scope(Scope::Profile)
        .doc(
            Doc::new("One's own applications, newest first")
                .pages()
                .answers(Shape::list::<oauth::AppView>()),
        ),
    Endpoint::api(Post, "/api/v1/oauth/apps", Direct, |r| r.to(oauth::create))
        .scope(Scope::Profile)
        .action(Action::AppCreate)
        .doc(
            Doc::new("Registers an application; its secret is in this answer only")
                .takes(Shape::of::<oauth::NewAppBody>())
                .answers(Shape::of::<oauth::AppView>()),
        ),
    Endpoint::api(Get, "/api/v1/oauth/apps/{id}", Direct, |r| r.to(oauth::get))
        .scope(Scope::Profile)
        .doc(Doc::new("One of one's own applications").answers(Shape::of::<oauth::AppView>())),
    Endpoint::api(Patch, "/api/v1/oauth/apps/{id}", Direct, |r| {
        r.to(oauth::update)
    })
    .scope(Scope::Profile)
    .action(Action::AppUpdate)
    .doc(
        Doc::new("Changes an application")
            .takes(Shape::of::<oauth::AppChangeBody>())
            .answers(Shape::of::<oauth::AppView>()),
    ),
    Endpoint::api(Delete, "/api/v1/oauth/apps/{id}", Direct, |r| {
        r.to(oauth::delete)
    })
    .scope(Scope::Profile)
    .action(Action::AppDelete)
    .doc(
        Doc::new("Deletes an application with all that users allowed it")
            .answers(Shape::of::<String>()),
    ),
    Endpoint::api(Post, "/api/v1/oauth/apps/{id}/secret", Direct, |r| {
        r.to(oauth::rotate_secret)
    })
    .scope(Scope::Profile)
    .action(Action::AppSecret)
    .doc(
        Doc::new("Gives an application another secret and ends its refresh tokens")
            .answers(Shape::of::<oauth::AppView>()),
    ),
    Endpoint::api(Get, "/api/v1/oauth/authorizations", Direct, |r| {
        r.to(oauth::authorizations)
    })
    .scope(Scope::Profile)
    .doc(
        Doc::new("The applications that one has authorized, newest first")
            .pages()
            .answers(Shape::list::<oauth::AuthorizationView>()),
    ),
    Endpoint::api(
        Delete,
        "/api/v1/oauth/authorizations/{app_id}",
        Direct,
        |r| r.to(oauth::revoke_authorization),
    )
    .scope(Scope::Profile)
    .action(Action::OauthRevoke)
    .doc(
        Doc::new("Takes back what one allowed an application; its tokens end at once")
            .answers(Shape::of::<String>()),
    ),
    Endpoint::api(Get, "/api/v1/oauth/authorize", Anyone, |r| r.to(oauth::ask)).doc(
        Doc::new("Sends a browser to the page that asks its user for what an application wants")
            .query(&[
                "client_id",
                "redirect_uri",
                "response_type",
                "state",
                "scope",
                "code_challenge",
                "code_challenge_method",
                "prompt",
            ])
            .redirects(),
    ),
    Endpoint::api(Post, "/api/v1/oauth/authorize", Session, |r| {
        r.to(oauth::decide)
    })
    .action(Action::OauthAuthorize)
    .doc(
        Doc::new("Allows or denies what an application asks")
            .takes(Shape::of::<oauth::DecisionBody>())
            .answers(Shape::of::<oauth::DecidedView>()),
    ),
    Endpoint::api(Post, "/api/v1/oauth/token", Anyone, |r| {
        r.to(oauth_token::token)
    })
    .doc(
        Doc::new("Gives an application tokens for a code or for a refresh token")
            .takes(Shape::of::<oauth_token::TokenBody>())
            .form()
            .answers(Shape::of::<oauth_token::IssuedView>())
            .bare(),
    ),
    Endpoint::api(Post, "/api/v1/oauth/token/revoke", Anyone, |r| {
        r.to(oauth_token::revoke)
    })
    .doc(
        Doc::new("Revokes an application's token (RFC 7009)")
            .takes(Shape::of::<oauth_token::AboutTokenBody>())
            .form()
            .answers(Shape::of::<String>()),
    ),
    Endpoint::api(Post, "/api/v1/oauth/introspect", Anyone, |r| {
        r.to(oauth_token::introspect)
    })
    .doc(
        Doc::new("What an application's token is worth (RFC 7662)")
            .takes(Shape::of::<oauth_token::AboutTokenBody>())
            .form()
            .answers(Shape::of::<oauth_token::ExaminedView>())
            .bare(),
    ),
    Endpoint::probe("/.well-known/oauth-authorization-server", |r| {
        r.to(oauth_token::metadata)
    }),
];

/// Every page.
pub const PAGES: &[Endpoint] = &[
    Endpoint::page(Get, "/setup", Anyone, |r| r.to(sign_in::setup_page)),
    Endpoint::page(Post, "/setup", Anyone, |r| r.to(sign_in::complete_setup)).action(Action::Setup),
    Endpoint::page(Get, "/login", Anyone, |r| r.to(sign_in::login_page)),
    Endpoint::page(Post, "/login", Anyone, |r| r.to(sign_in::login)),
    Endpoint::page(Post, "/logout", Session, |r| r.to(sign_in::logout)).action(Action::Logout),
    Endpoint::page(Post, "/theme", Session, |r| r.to(shell::choose_theme)),
    Endpoint::page(Get, "/", Session, |r| r.to(list::show)),
    Endpoint::page(Get, "/containers", Session, |r| r.to(list::elsewhere)),
    Endpoint::page(Post, "/containers", Session, |r| r.to(new::create))
        .action(Action::ContainerCreate),
    Endpoint::page(Get, "/containers/new", Session, |r| r.to(new::show)),
    Endpoint::page(Get, "/containers/{id}", Session, |r| r.to(detail::overview)),
    Endpoint::page(Get, "/containers/{id}/head", Session, |r| {
        r.to(detail::head)
    }),
    Endpoint::page(Get, "/containers/{id}/metrics", Session, |r| {
        r.to(detail::metrics)
    }),
    Endpoint::page(Get, "/containers/{id}/commands", Session, |r| {
        r.to(detail::commands)
    }),
    Endpoint::page(Post, "/containers/{id}/commands", Session, |r| {
        r.to(act::run)
    })
    .action(Action::CommandCreate),
    Endpoint::page(Get, "/containers/{id}/console", Session, |r| {
        r.to(detail::console)
    }),
    Endpoint::page(Get, "/containers/{id}/settings", Session, |r| {
        r.to(detail::settings)
    }),
    Endpoint::page(Post, "/containers/{id}/start", Session, |r| {
        r.to(act::start)
    })
    .action(Action::ContainerStart),
    Endpoint::page(Post, "/containers/{id}/stop", Session, |r| r.to(act::stop))
        .action(Action::ContainerStop),
    Endpoint::page(Post, "/containers/{id}/restart", Session, |r| {
        r.to(act::restart)
    })
    .action(Action::ContainerRestart),
    Endpoint::page(Post, "/containers/{id}/delete", Session, |r| {
        r.to(act::delete)
    })
    .action(Action::ContainerDelete),
    Endpoint::page(Get, "/commands/{id}", Session, |r| {
        r.to(pages::commands::show)
    }),
    Endpoint::page(Post, "/commands/{id}/cancel", Session, |r| {
        r.to(pages::commands::cancel)
    })
    .action(Action::CommandCancel),
    Endpoint::page(Get, "/images", Session, |r| r.to(pages::images::show)),
    Endpoint::page(Post, "/images", Session, |r| r.to(pages::images::add)).action(Action::ImageAdd),
    Endpoint::page(Post, "/images/{name}/delete", Session, |r| {
        r.to(pages::images::remove)
    })
    .action(Action::ImageRemove),
    Endpoint::page(Get, "/tokens", Session, |r| r.to(pages::tokens::show)),
    Endpoint::page(Post, "/tokens", Session, |r| r.to(pages::tokens::create))
        .action(Action::TokenCreate),
    Endpoint::page(Post, "/tokens/{id}/revoke", Session, |r| {
        r.to(pages::tokens::revoke)
    })
    .action(Action::TokenRevoke),
    Endpoint::page(Get, "/sessions", Session, |r| r.to(account::sessions)),
    Endpoint::page(Post, "/sessions/{id}/end", Session, |r| {
        r.to(account::end_session)
    })
    .action(Action::SessionEnd),
    Endpoint::page(Get, "/profile", Session, |r| r.to(account::profile)),
    Endpoint::page(Post, "/profile/password", Session, |r| {
        r.to(account::change_password)
    })
    .action(Action::PasswordChange),
    Endpoint::page(Get, "/activity", Session, |r| r.to(activity::show)),
    Endpoint::page(Get, "/styleguide", Session, |r| r.to(styleguide::show)),
    Endpoint::page(Get, "/reset", Anyone, |r| r.to(pages::reset::show)),
    Endpoint::page(Post, "/reset", Anyone, |r| r.to(pages::reset::redeem)),
    Endpoint::page(Get, "/admin/users", Session, |r| r.to(users::show)),
    Endpoint::page(Post, "/admin/users", Session, |r| r.to(users::create))
        .action(Action::UserCreate),
    Endpoint::page(Get, "/admin/users/{id}", Session, |r| r.to(users::one_user)),
    Endpoint::page(Post, "/admin/users/{id}", Session, |r| r.to(users::change))
        .action(Action::UserChange),
    Endpoint::page(Post, "/admin/users/{id}/reset", Session, |r| {
        r.to(users::reset)
    })
    .action(Action::UserReset),
    Endpoint::page(Post, "/admin/users/{id}/sessions/end", Session, |r| {
        r.to(users::end_sessions)
    })
    .action(Action::UserSessionsEnd),
    Endpoint::page(
        Post,
        "/admin/users/{id}/sessions/{session_id}/end",
        Session,
        |r| r.to(users::end_session),
    )
    .action(Action::SessionEnd),
    Endpoint::page(Post, "/admin/users/{id}/totp/remove", Session, |r| {
        r.to(users::remove_totp)
    })
    .action(Action::UserTotpRemove),
    Endpoint::page(Post, "/login/code", Anyone, |r| r.to(sign_in::login_code)),
    Endpoint::page(Get, "/confirm", Session, |r| r.to(ways::show_confirm)),
    Endpoint::page(Post, "/confirm", Session, |r| r.to(ways::confirm)).action(Action::Confirm),
    Endpoint::page(Post, "/profile/totp", Session, |r| r.to(ways::start_totp))
        .action(Action::TotpStart),
    Endpoint::page(Post, "/profile/totp/confirm", Session, |r| {
        r.to(ways::confirm_totp)
    })
    .action(Action::TotpEnable),
    Endpoint::page(Post, "/profile/totp/recovery", Session, |r| {
        r.to(ways::renew_recovery)
    })
    .action(Action::TotpRecovery),
    Endpoint::page(Post, "/profile/totp/off", Session, |r| {
        r.to(ways::disable_totp)
    })
    .action(Action::TotpDisable),
    Endpoint::page(Post, "/profile/passkeys/{id}/remove", Session, |r| {
        r.to(ways::remove_passkey)
    })
    .action(Action::PasskeyRemove),
    Endpoint::page(Post, "/profile/oidc/link", Session, |r| r.to(ways::link))
        .action(Action::OidcLink),
    Endpoint::page(Post, "/profile/oidc/{id}/unlink", Session, |r| {
        r.to(ways::unlink)
    })
    .action(Action::OidcUnlink),
    Endpoint::page(Get, "/apps", Session, |r| r.to(pages::apps::show)),
    Endpoint::page(Post, "/apps", Session, |r| r.to(pages::apps::create)).action(Action::AppCreate),
    Endpoint::page(Get, "/apps/{id}", Session, |r| r.to(pages::apps::edit)),
    Endpoint::page(Post, "/apps/{id}", Session, |r| r.to(pages::apps::save))
        .action(Action::AppUpdate),
    Endpoint::page(Post, "/apps/{id}/secret", Session, |r| {
        r.to(pages::apps::rotate_secret)
    })
    .action(Action::AppSecret),
    Endpoint::page(Post, "/apps/{id}/delete", Session, |r| {
        r.to(pages::apps::delete)
    })
    .action(Action::AppDelete),
    Endpoint::page(Get, "/authorizations", Session, |r| {
        r.to(pages::authorizations::show)
    }),
    Endpoint::page(Post, "/authorizations/{app_id}/revoke", Session, |r| {
        r.to(pages::authorizations::revoke)
    })
    .action(Action::OauthRevoke),
    Endpoint::page(Get, "/oauth/consent", Session, |r| {
        r.to(pages::consent::ask)
    }),
    Endpoint::page(Post, "/oauth/consent", Session, |r| {
        r.to(pages::consent::decide)
    })
    .action(Action::OauthAuthorize),
];

/// All routes.
pub fn table() -> impl Iterator<Item = &'static Endpoint> {
    API.iter().chain(PAGES)
}

/// Registers the table: a resource a path, a route a method, the gate around each.
pub fn configure(config: &mut web::ServiceConfig) {
    let mut paths: Vec<&'static str> = Vec::new();
    for endpoint in table() {
        if !paths.contains(&endpoint.path) {
            paths.push(endpoint.path);
        }
    }
    for path in paths {
        let routes: Vec<&'static Endpoint> = table().filter(|e| e.path == path).collect();
        config.service(resource(path, &routes));
    }
    config.route("/static/{path:.*}", Verb::Get.route().to(asset));
}

fn resource(path: &'static str, endpoints: &[&'static Endpoint]) -> Resource {
    let mut resource = web::resource(path);
    let mut allow: Vec<&'static str> = Vec::new();
    for endpoint in endpoints {
        let endpoint: &'static Endpoint = endpoint;
        allow.push(endpoint.verb.as_str());
        if endpoint.verb == Verb::Get {
            allow.push("HEAD");
        }
        let route = (endpoint.handler)(endpoint.verb.route());
        let gate = from_fn(move |request, next| gate::wrap(endpoint, request, next));
        resource = resource.route(route.wrap(gate));
    }
    let allow = allow.join(", ");
    resource.default_service(web::to(move || {
        let allow = allow.clone();
        async move {
            let mut answer = response(&Error::MethodNotAllowed);
            if let Ok(value) = header::HeaderValue::from_str(&allow) {
                answer.headers_mut().insert(header::ALLOW, value);
            }
            Ok::<HttpResponse, Error>(answer)
        }
    }))
}

/// An embedded file: the same for everyone, so it has no gate.
async fn asset(request: HttpRequest) -> Result<HttpResponse> {
    match assets::serve(&request) {
        Some(answer) => Ok(answer),
        None => unknown_route().await,
    }
}
