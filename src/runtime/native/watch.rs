//! What goes on by itself while containers run: noticing their deaths, collecting their consoles.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::engine::{Engine, Entry, Live, lock};
use super::fault::{Context as _, blocking};

/// How often consoles are collected: seldom enough to cost nothing, often enough that their few
/// MiB suffice.
const COLLECT: Duration = Duration::from_secs(3);

/// Clears away after a container whose init ends by itself, and tells of it.
pub(super) fn death(engine: &Arc<Engine>, entry: &Arc<Entry>, live: &Arc<Live>) {
    let (engine, entry, live) = (Arc::downgrade(engine), Arc::clone(entry), Arc::clone(live));
    tokio::spawn(async move {
        if let Err(error) = live.process.ended().await {
            tracing::error!(id = %entry.id, %error, "cannot watch a container");
            return;
        }
        let _action = entry.action.lock().await;
        // Stopped by us, and perhaps started again since: not ours to clear.
        let current = lock(&entry.live)
            .as_ref()
            .is_some_and(|now| Arc::ptr_eq(now, &live));
        let Some(engine) = Weak::upgrade(&engine).filter(|_| current) else {
            return;
        };
        if let Err(error) = engine.end(&entry, &live).await {
            tracing::error!(id = %entry.id, %error, "could not clear away a dead container");
        }
    });
}

/// Collects all consoles again and again, as long as the engine lives.
pub(super) fn collect_consoles(engine: &Arc<Engine>) {
    let engine = Arc::downgrade(engine);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(COLLECT);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(engine) = Weak::upgrade(&engine) else {
                return;
            };
            let collected = blocking(move || {
                for live in engine.entries().iter().filter_map(|entry| entry.live()) {
                    collect(&live)?;
                }
                Ok(())
            });
            if let Err(error) = collected.await {
                tracing::warn!(%error, "a container's console is not kept");
            }
        }
    });
}

/// Collects one console.
pub(super) fn collect(live: &Live) -> Result<(), crate::runtime::RuntimeError> {
    match lock(&live.console).as_mut() {
        Some(console) => console.collect().or_fail("could not collect the console"),
        None => Ok(()),
    }
}
