//! The API of accounts: signing in, one's own credentials, everyone's users. To add a route, add a line.

use super::Access::{Any, Anyone, Direct, Session};
use super::Verb::{Delete, Get, Patch, Post};
use super::{Doc, Endpoint, Shape};
use crate::auth::actor::Scope;
use crate::domain::audit::Action;
use crate::web::api::{admin, auth, oidc, passkeys, sessions, tokens, totp};

pub(super) const TABLE: &[Endpoint] = &[
    Endpoint::api(Post, "/api/v1/auth/login", Anyone, |r| r.to(auth::login))
        .signs_in()
        .doc(
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
            .pages()
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
                .creates()
                .takes(Shape::of::<tokens::NewTokenBody>())
                .answers(Shape::of::<tokens::TokenView>()),
        ),
    Endpoint::api(Delete, "/api/v1/tokens/{id}", Direct, |r| {
        r.to(tokens::revoke)
    })
    .scope(Scope::Profile)
    .action(Action::TokenRevoke)
    .doc(Doc::new("Revokes a token at once").answers(Shape::of::<String>())),
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
    .doc(
        Doc::new("One's own passkeys, newest first")
            .pages()
            .answers(Shape::list::<passkeys::PasskeyView>()),
    ),
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
    .signs_in()
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
        Doc::new("One's own accounts at OpenID Connect providers, newest first")
            .pages()
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
                .creates()
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
];
