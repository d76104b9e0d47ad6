//! `hzel doctor`: what this machine can and cannot do. What is looked at belongs to the engine.

use super::{Outcome, open};
use crate::config::Config;
use crate::runtime::FindingLevel;

pub async fn run(config: Config) -> Outcome {
    let database = match open::database(&config, 1) {
        Ok(db) => ("ok", db.engine().to_owned(), String::new()),
        Err(message) => (
            "broken",
            message,
            "see DATABASE_URL in the README".to_owned(),
        ),
    };
    let mut broken = database.0 == "broken";
    show(database.0, "database", &database.1, &database.2);
    for finding in open::engine(&config)?.examine().await {
        let word = match finding.level {
            FindingLevel::Ok => "ok",
            FindingLevel::Warning => "warning",
            FindingLevel::Broken => {
                broken = true;
                "broken"
            }
        };
        show(word, finding.name, &finding.detail, &finding.remedy);
    }
    if broken {
        Err("this machine cannot run containers until what is marked broken is mended".into())
    } else {
        println!("this machine can run containers");
        Ok(())
    }
}

fn show(word: &str, name: &str, detail: &str, remedy: &str) {
    println!("{word:8} {name}: {detail}");
    if !remedy.is_empty() {
        println!("         -> {remedy}");
    }
}
