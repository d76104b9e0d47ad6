//! The pages. To add one, add a line; pages have no documentation of their own.

use super::Access::{Anyone, Session};
use super::Endpoint;
use super::Verb::{Get, Post};
use crate::domain::audit::Action;
use crate::web::pages::containers::{act, detail, files, list, new};
use crate::web::pages::{self, account, activity, shell, sign_in, styleguide, users, ways};

pub(super) const TABLE: &[Endpoint] = &[
    Endpoint::page(Get, "/setup", Anyone, |r| r.to(sign_in::setup_page)),
    Endpoint::page(Post, "/setup", Anyone, |r| r.to(sign_in::complete_setup)).action(Action::Setup),
    Endpoint::page(Get, "/login", Anyone, |r| r.to(sign_in::login_page)),
    Endpoint::page(Post, "/login", Anyone, |r| r.to(sign_in::login)).signs_in(),
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
    Endpoint::page(Get, "/containers/{id}/files", Session, |r| {
        r.to(files::show)
    }),
    Endpoint::page(Get, "/containers/{id}/files/download", Session, |r| {
        r.to(files::fetch)
    }),
    Endpoint::page(Post, "/containers/{id}/files/upload", Session, |r| {
        r.to(files::upload)
    })
    .action(Action::FileUpload)
    .streams(),
    Endpoint::page(Post, "/containers/{id}/files/mkdir", Session, |r| {
        r.to(files::mkdir)
    })
    .action(Action::FileMkdir),
    Endpoint::page(Post, "/containers/{id}/files/move", Session, |r| {
        r.to(files::rename)
    })
    .action(Action::FileMove),
    Endpoint::page(Post, "/containers/{id}/files/chmod", Session, |r| {
        r.to(files::chmod)
    })
    .action(Action::FileChmod),
    Endpoint::page(Post, "/containers/{id}/files/delete", Session, |r| {
        r.to(files::delete)
    })
    .action(Action::FileDelete),
    Endpoint::page(Get, "/commands/{id}", Session, |r| {
        r.to(pages::commands::show)
    }),
    Endpoint::page(Post, "/commands/{id}/cancel", Session, |r| {
        r.to(pages::commands::cancel)
    })
    .action(Action::CommandCancel),
    Endpoint::page(Post, "/commands/{id}/again", Session, |r| {
        r.to(pages::commands::again)
    })
    .action(Action::CommandCreate),
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
    // As the OpenAPI document, of which it is made.
    Endpoint::page(Get, "/docs", Anyone, |r| r.to(pages::docs::show)),
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
    Endpoint::page(Post, "/login/code", Anyone, |r| r.to(sign_in::login_code)).signs_in(),
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
