//! What each scope allows, in plain words: on the page of tokens and on the one that asks for
//! consent. A new scope wants its words in [`allows`].

use crate::auth::actor::Scope;

/// Goes on from "may".
#[must_use]
pub const fn allows(scope: Scope) -> &'static str {
    match scope {
        Scope::ContainersRead => "see your containers, their usage and their console",
        Scope::ContainersWrite => "make, start, stop and delete containers",
        Scope::Commands => "run commands in your containers and read their output",
        Scope::Terminal => "open terminals in your containers and use their files",
        Scope::Networks => "see and change your private networks",
        Scope::Webhooks => "see and change your deploy webhooks",
        Scope::Profile => "read your name, e-mail address and role",
    }
}

/// The same of a personal token, which may more with `profile` than an application's.
#[must_use]
pub const fn token_allows(scope: Scope) -> &'static str {
    match scope {
        Scope::Profile => {
            "read your name, e-mail address and role, list, make and revoke your tokens, and \
             manage your applications and those you authorized"
        }
        other => allows(other),
    }
}

/// All that an application with these scopes could do. Who its user is, it learns in any case: the
/// address that tells takes every token.
#[must_use]
pub fn all_allowed(scopes: &[Scope]) -> Vec<&'static str> {
    let always = (!scopes.contains(&Scope::Profile)).then_some(Scope::Profile);
    let all = scopes.iter().copied().chain(always);
    all.map(allows).collect()
}
