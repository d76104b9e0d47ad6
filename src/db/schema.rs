//! The tables, as the migrations make them on both databases. Written by hand: a column added to
//! a migration is added here in the same commit.

diesel::table! {
    users (id) {
        id -> Text,
        email -> Text,
        display_name -> Text,
        role -> Text,
        status -> Text,
        password_hash -> Nullable<Text>,
        created_at -> Timestamp,
        updated_at -> Timestamp,
        last_login_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    sessions (id) {
        id -> Text,
        key_hash -> Text,
        user_id -> Text,
        csrf_token -> Text,
        auth_method -> Text,
        address -> Nullable<Text>,
        user_agent -> Nullable<Text>,
        created_at -> Timestamp,
        last_seen_at -> Timestamp,
        expires_at -> Timestamp,
        proved_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    tokens (id) {
        id -> Text,
        user_id -> Text,
        name -> Text,
        prefix -> Text,
        hash -> Text,
        scopes -> Nullable<Text>,
        created_at -> Timestamp,
        expires_at -> Nullable<Timestamp>,
        last_used_at -> Nullable<Timestamp>,
        revoked_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    images (id) {
        id -> Text,
        name -> Text,
        source -> Text,
        status -> Text,
        step -> Text,
        percent -> Integer,
        error -> Nullable<Text>,
        description -> Text,
        size_bytes -> BigInt,
        created_at -> Timestamp,
        updated_at -> Timestamp,
    }
}

diesel::table! {
    containers (id) {
        id -> Text,
        user_id -> Text,
        hostname -> Text,
        image -> Text,
        node_name -> Text,
        state -> Text,
        state_reason -> Nullable<Text>,
        wanted -> Text,
        cpu_cores -> Integer,
        memory_mb -> Integer,
        disk_gb -> Integer,
        ipv4 -> Nullable<Text>,
        ssh_keys -> Text,
        user_data -> Nullable<Text>,
        created_at -> Timestamp,
        updated_at -> Timestamp,
        started_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    jobs (id) {
        id -> Text,
        kind -> Text,
        container_id -> Nullable<Text>,
        subject -> Text,
        user_id -> Nullable<Text>,
        request_id -> Text,
        node_name -> Text,
        status -> Text,
        error -> Nullable<Text>,
        attempts -> Integer,
        created_at -> Timestamp,
        started_at -> Nullable<Timestamp>,
        finished_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    commands (id) {
        id -> Text,
        container_id -> Text,
        requested_by -> Text,
        node_name -> Text,
        command -> Text,
        spec -> Text,
        timeout_seconds -> Integer,
        status -> Text,
        cancel_requested -> Bool,
        exit_code -> Nullable<Integer>,
        stdout -> Text,
        stderr -> Text,
        truncated -> Bool,
        error -> Nullable<Text>,
        created_at -> Timestamp,
        started_at -> Nullable<Timestamp>,
        finished_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    audit_logs (id) {
        id -> Text,
        seq -> BigInt,
        user_id -> Nullable<Text>,
        container_id -> Nullable<Text>,
        action -> Text,
        outcome -> Text,
        metadata -> Text,
        created_at -> Timestamp,
        hash -> Text,
    }
}

diesel::table! {
    idempotency_keys (user_id, key, route) {
        user_id -> Text,
        key -> Text,
        route -> Text,
        body_hash -> Text,
        answer -> Text,
        created_at -> Timestamp,
    }
}

diesel::table! {
    settings (name) {
        name -> Text,
        value -> Text,
    }
}

diesel::table! {
    oauth_apps (id) {
        id -> Text,
        client_id -> Text,
        user_id -> Text,
        name -> Text,
        description -> Text,
        redirect_uris -> Text,
        public -> Bool,
        secret_hash -> Nullable<Text>,
        secret_prefix -> Nullable<Text>,
        created_at -> Timestamp,
        updated_at -> Timestamp,
    }
}

diesel::table! {
    oauth_authorizations (id) {
        id -> Text,
        user_id -> Text,
        app_id -> Text,
        scopes -> Text,
        created_at -> Timestamp,
        updated_at -> Timestamp,
        last_used_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    oauth_families (id) {
        id -> Text,
        app_id -> Text,
        user_id -> Text,
        scopes -> Text,
        created_at -> Timestamp,
        expires_at -> Timestamp,
        revoked_at -> Nullable<Timestamp>,
        refresh_revoked_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    oauth_codes (hash) {
        hash -> Text,
        app_id -> Text,
        user_id -> Text,
        redirect_uri -> Text,
        scopes -> Text,
        code_challenge -> Nullable<Text>,
        family_id -> Nullable<Text>,
        created_at -> Timestamp,
        expires_at -> Timestamp,
        used_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    oauth_access_tokens (id) {
        id -> Text,
        hash -> Text,
        family_id -> Text,
        scopes -> Text,
        created_at -> Timestamp,
        expires_at -> Timestamp,
        revoked_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    oauth_refresh_tokens (id) {
        id -> Text,
        hash -> Text,
        family_id -> Text,
        created_at -> Timestamp,
        expires_at -> Timestamp,
        used_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    password_resets (user_id) {
        user_id -> Text,
        hash -> Text,
        created_at -> Timestamp,
        expires_at -> Timestamp,
    }
}

diesel::table! {
    oidc_identities (id) {
        id -> Text,
        user_id -> Text,
        issuer -> Text,
        subject -> Text,
        email -> Nullable<Text>,
        created_at -> Timestamp,
        last_login_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    oidc_attempts (state_hash) {
        state_hash -> Text,
        browser_hash -> Text,
        next -> Text,
        link_session_id -> Nullable<Text>,
        expires_at -> Timestamp,
    }
}

diesel::table! {
    totp_factors (user_id) {
        user_id -> Text,
        seed -> Text,
        confirmed_at -> Nullable<Timestamp>,
        last_step -> BigInt,
        created_at -> Timestamp,
    }
}

diesel::table! {
    recovery_codes (user_id, hash) {
        user_id -> Text,
        hash -> Text,
        used_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    passkeys (id) {
        id -> Text,
        user_id -> Text,
        credential_id -> Text,
        name -> Text,
        credential -> Text,
        created_at -> Timestamp,
        last_used_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    passkey_ceremonies (ticket_hash) {
        ticket_hash -> Text,
        user_id -> Nullable<Text>,
        state -> Text,
        expires_at -> Timestamp,
    }
}

diesel::table! {
    tickets (hash) {
        hash -> Text,
        path -> Text,
        user_id -> Text,
        credential_kind -> Text,
        credential_id -> Text,
        created_at -> Timestamp,
        expires_at -> Timestamp,
    }
}

diesel::table! {
    container_members (container_id, user_id) {
        container_id -> Text,
        user_id -> Text,
        permissions -> Integer,
        created_at -> Timestamp,
    }
}

diesel::joinable!(sessions -> users (user_id));
diesel::joinable!(tokens -> users (user_id));
diesel::joinable!(containers -> users (user_id));
diesel::joinable!(commands -> containers (container_id));
diesel::allow_tables_to_appear_in_same_query!(
    users,
    sessions,
    tokens,
    containers,
    container_members,
    commands,
    jobs,
);

diesel::joinable!(oauth_apps -> users (user_id));
diesel::joinable!(oauth_authorizations -> oauth_apps (app_id));
diesel::joinable!(oauth_families -> users (user_id));
diesel::joinable!(oauth_access_tokens -> oauth_families (family_id));
diesel::joinable!(oauth_refresh_tokens -> oauth_families (family_id));
diesel::allow_tables_to_appear_in_same_query!(
    users,
    oauth_apps,
    oauth_authorizations,
    oauth_families,
    oauth_access_tokens,
    oauth_refresh_tokens,
);
