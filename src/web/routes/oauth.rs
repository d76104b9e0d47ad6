//! The API of hzel as an authorization server. To add a route, add a line.

use super::Access::{Anyone, Direct, Session};
use super::Verb::{Delete, Get, Patch, Post};
use super::{Doc, Endpoint, Shape};
use crate::auth::actor::Scope;
use crate::domain::audit::Action;
use crate::web::api::{oauth, oauth_token};

pub(super) const TABLE: &[Endpoint] = &[
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
                .creates()
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
    })
    .doc(Doc::new("What this server can do for applications (RFC 8414)").bare()),
];
