//! Messages to Slack and Microsoft Teams: custom notifications of Amazon Q Developer in chat applications (its
//! administrator guide, "Custom notifications").
//!
//! Nothing that came from outside is markup there: names and reasons are text, and mention no one.

use pipeline::notice::{Command, Message, Place};
use reputation::detect::Level;
use serde_json::{Value, json};

use super::cut;

/// Bytes of each part. Unverified: the guide is said to allow a title 250 characters, a description 8,000, a next step 350 and
/// at most 10 of them, a thread and a related resource 300.
const TITLE: usize = 250;
const DESCRIPTION: usize = 7_500;
const STEP: usize = 350;
const STEPS: usize = 10;
const NAME: usize = 300;
const KEYWORD: usize = 75;
const RESOURCES: usize = 10;

/// A message as a custom notification.
pub(super) fn notification(message: &Message, place: &Place) -> Value {
    let mark = match message.level {
        Some(Level::Pause) => "\u{1f6d1} ",
        Some(Level::Throttle) => "\u{26a0}\u{fe0f} ",
        Some(Level::Warn) => "\u{1f4c8} ",
        None => "",
    };
    let step = |command: &Command| {
        let line = command.line(place);
        // Half a command is none.
        let step = format!("{}: `{}`", command.purpose, code(&line));
        if step.len() <= STEP { Some(step) } else { None }
    };
    let keywords = [place.stack.as_str(), place.region.as_str(), message.level.map_or("news", Level::name)];
    let keywords: Vec<String> =
        keywords.iter().filter(|word| !word.is_empty()).map(|word| cut(word, KEYWORD).into_owned()).collect();
    // Everything about one subject is one thread.
    let thread = format!("{} {}", place.stack, message.subject);
    let related: Vec<String> =
        message.subjects.iter().take(RESOURCES).map(|subject| cut(subject, NAME).into_owned()).collect();
    let mut notification = json!({
        "version": "1.0",
        "source": "custom",
        "id": cut(&message.id, NAME),
        "content": {
            "textType": "client-markdown",
            "title": cut(&format!("{mark}{}", plain(&message.title)), TITLE),
            "description": description(message, place),
            "nextSteps": message.commands.iter().filter_map(step).take(STEPS).collect::<Vec<_>>(),
            "keywords": keywords,
        },
        "metadata": {
            "threadId": cut(thread.trim(), NAME),
            "summary": cut(&plain(&message.title), NAME),
            "eventType": message.kind,
            "additionalContext": { "id": cut(&message.id, NAME) },
        },
    });
    if !related.is_empty() {
        notification["metadata"]["relatedResources"] = Value::from(related);
    }
    notification
}

/// What happened, what to do first, what undoes it and where to read on; then the rest, as far as there is room.
fn description(message: &Message, place: &Place) -> String {
    let mut text = plain(message.summary.trim_end());
    if !message.first.is_empty() {
        text.push_str(&format!("\n\nFirst: {}", plain(&message.first)));
    }
    let undo: Vec<String> = message.undo(place).map(|line| code(&line)).collect();
    if !undo.is_empty() {
        text.push_str(&format!("\n\nUndo:\n```\n{}\n```", undo.join("\n")));
    }
    if !message.runbook.is_empty() {
        text.push_str(&format!("\nRunbook: {}", plain(&place.section(&message.runbook))));
    }
    let rest = plain(message.body.trim());
    let room = DESCRIPTION.saturating_sub(text.len() + 2);
    format!("{text}\n\n{}", cut(&rest, room)).trim_end().to_owned()
}

/// A command as it stands between marks of code.
fn code(line: &str) -> String {
    line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('`', "'")
}

/// Text without markup: no link, no mention, no entity.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => plain.push_str("&amp;"),
            '<' => plain.push_str("&lt;"),
            '>' => plain.push_str("&gt;"),
            // A space of no width, so that what follows is not a mention.
            '@' => plain.push_str("@\u{200b}"),
            '`' => plain.push('\''),
            letter => plain.push(letter),
        }
    }
    plain
}
