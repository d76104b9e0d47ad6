//! The API of images, containers, and what runs in them. To add a route, add a line.

use super::Access::Any;
use super::Verb::{Delete, Get, Post, Put};
use super::{Doc, Endpoint, Shape};
use crate::auth::actor::Scope;
use crate::domain::audit::Action;
use crate::web::api::{commands, containers, files, images};

pub(super) const TABLE: &[Endpoint] = &[
    Endpoint::api(Get, "/api/v1/images", Any, |r| r.to(images::list))
        .scope(Scope::ContainersRead)
        .doc(
            Doc::new("The images that containers can be made from, with their progress")
                .pages()
                .answers(Shape::list::<images::ImageView>()),
        ),
    Endpoint::api(Post, "/api/v1/images", Any, |r| r.to(images::add))
        .scope(Scope::ContainersWrite)
        .action(Action::ImageAdd)
        .doc(
            Doc::new("Has an image made (administrators)")
                .takes(Shape::of::<images::NewImageBody>())
                .creates()
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
            .creates()
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
            .creates()
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
    Endpoint::api(Get, "/api/v1/containers/{id}/files", Any, |r| {
        r.to(files::get)
    })
    .scope(Scope::Terminal)
    .doc(
        Doc::new("A file's bytes, or a directory's entries")
            .note(
                "Entries come in the order of their names' bytes, at most 10,000 at once. With \
                 `Accept: application/x-tar` it answers a tar of either. Ranges and ETags are \
                 honoured.",
            )
        .query(&["path", "limit", "cursor"])
        .answers(Shape::list::<files::FileView>())
        .sends(&["application/octet-stream", "application/x-tar"]),
    ),
    Endpoint::api(Put, "/api/v1/containers/{id}/files", Any, |r| {
        r.to(files::put)
    })
    .scope(Scope::Terminal)
    .action(Action::FileUpload)
    .streams()
    .doc(
        Doc::new("Makes or replaces a file with the request's body")
            .note(
                "The file has its name when it is whole, and at once. `Idempotency-Key` is ignored.",
            )
        .query(&["path", "uid", "gid", "mode"])
        .answers(Shape::of::<files::FileView>()),
    ),
    Endpoint::api(Delete, "/api/v1/containers/{id}/files", Any, |r| {
        r.to(files::delete)
    })
    .scope(Scope::Terminal)
    .action(Action::FileDelete)
    .doc(
        Doc::new("Deletes a file, a link, or a directory; one with something in it if recursive")
            .query(&["path", "recursive"])
            .answers(Shape::of::<String>()),
    ),
    Endpoint::api(Post, "/api/v1/containers/{id}/files/mkdir", Any, |r| {
        r.to(files::mkdir)
    })
    .scope(Scope::Terminal)
    .action(Action::FileMkdir)
    .doc(
        Doc::new("Makes a directory")
            .takes(Shape::of::<files::MkdirBody>())
            .answers(Shape::of::<files::FileView>()),
    ),
    Endpoint::api(Post, "/api/v1/containers/{id}/files/move", Any, |r| {
        r.to(files::rename)
    })
    .scope(Scope::Terminal)
    .action(Action::FileMove)
    .doc(
        Doc::new("Gives a file or directory another name or place")
            .takes(Shape::of::<files::MoveBody>())
            .answers(Shape::of::<String>()),
    ),
    Endpoint::api(Post, "/api/v1/containers/{id}/files/chmod", Any, |r| {
        r.to(files::chmod)
    })
    .scope(Scope::Terminal)
    .action(Action::FileChmod)
    .doc(
        Doc::new("Sets the permissions of a file or directory")
            .takes(Shape::of::<files::ChmodBody>())
            .answers(Shape::of::<files::FileView>()),
    ),
];
