//! The results of `up`, `deploy`, `down` and `policy-of`.

use terminal::{Align, BAD, BOLD, Cell, DIM, DOUBTFUL, GOOD, Grid, TermStyle, counted, hanging, name, paint, sanitize};

use super::{Render, heading, sentence};
use crate::Exit;
use crate::stack::cloudformation::Change;
use crate::stack::deploy::{Deployed, Outcome};
use crate::stack::down::Down;
use crate::stack::permissions::PolicyDocument;
use crate::stack::purge::{KEY_DAYS, Purged};
use crate::up::Up;

impl Render for Deployed {
    fn text(&self, term: TermStyle) -> String {
        deployed(self, term)
    }
}

impl Render for Down {
    fn text(&self, term: TermStyle) -> String {
        down(self, term)
    }

    fn exit(&self) -> Exit {
        Down::exit(self)
    }
}

impl Render for Up {
    fn text(&self, term: TermStyle) -> String {
        up(self, term)
    }

    fn exit(&self) -> Exit {
        Up::exit(self)
    }
}

impl Render for PolicyDocument {
    /// A policy is read by IAM, so its text is its JSON.
    fn text(&self, _: TermStyle) -> String {
        self.json()
    }
}

/// The changes of a change set: for a new stack their number, otherwise each of them.
pub(super) fn changes_text(changes: &[Change], create: bool) -> String {
    if create {
        return format!("{} will be created.\n", counted(changes.len() as u64, "resource"));
    }
    let mut grid = Grid::new(&[("", Align::Left), ("resource", Align::Left), ("type", Align::Left)], 2);
    for change in changes {
        let (word, style) = match change.action {
            "remove" | "replace" => (change.action, BAD),
            _ if change.may_replace => ("change or replace", DOUBTFUL),
            action => (action, terminal::PLAIN),
        };
        grid.push(vec![
            Cell::styled(word, style),
            Cell::styled(name(&change.resource), BOLD),
            Cell::styled(sanitize(&change.kind), DIM),
        ]);
    }
    grid.lines().into_iter().map(|line| line + "\n").collect()
}

fn deployed(deployed: &Deployed, term: TermStyle) -> String {
    let mut out = String::new();
    let stack = name(&deployed.stack);
    let place = format!("account {}, {}", sanitize(&deployed.account), sanitize(&deployed.region));
    if deployed.dry_run {
        let create = deployed.outcome == Outcome::Created;
        if deployed.outcome == Outcome::Unchanged {
            out.push_str(&format!("stack {stack} in {place} would not change\n"));
        } else {
            out.push_str(&changes_text(&deployed.changes, create));
        }
        out.push_str("Nothing of the stack was changed; its code is in the bucket.\n");
        return out;
    }
    let what = match deployed.outcome {
        Outcome::Created => format!("created, {}", counted(deployed.changes.len() as u64, "resource")),
        Outcome::Updated => format!("updated, {} changed", counted(deployed.changes.len() as u64, "resource")),
        Outcome::Unchanged => "as it should be; nothing was changed".to_owned(),
    };
    out.push_str(&format!("{}\n", paint(GOOD.bold(), &format!("stack {stack}: {what}"))));
    out.push_str(&paint(
        DIM,
        &format!("release {} in {place}; code in {}", deployed.version, sanitize(&deployed.bucket)),
    ));
    out.push('\n');
    for choice in &deployed.choices {
        out.push_str(&hanging("", &sanitize(choice), term.columns()));
    }
    out
}

fn up(up: &Up, term: TermStyle) -> String {
    let mut out = deployed(&up.deployed, term);
    if up.deployed.dry_run {
        return out;
    }
    if let Some(connected) = &up.connected {
        out.push_str(&heading("Configuration sets"));
        out.push_str(&connected.text(term));
    }
    match up.heard {
        Some(true) => out.push_str(&format!("{}\n", paint(GOOD, "events arrive"))),
        Some(false) => out.push_str(&format!("{}\n", paint(DOUBTFUL, "no event has arrived yet"))),
        None => {}
    }
    if let Some(acting) = &up.acting {
        out.push_str(&heading("Policy"));
        out.push_str(&acting.text(term));
    }
    if let Some(diagnosis) = &up.diagnosis {
        out.push_str(&heading("Doctor"));
        out.push_str(&diagnosis.text(term));
    }
    out.push_str(&heading("Next"));
    out.extend(up.next.iter().map(|next| sentence(next, term)));
    out.push_str(&paint(DIM, &format!("this took {} s", up.seconds)));
    out.push('\n');
    out
}

fn down(down: &Down, term: TermStyle) -> String {
    let mut out = String::new();
    if let Some(disconnected) = &down.disconnected {
        out.push_str(&disconnected.text(term));
        out.push('\n');
    }
    let stack = name(&down.stack);
    let place = format!("account {}, {}", sanitize(&down.account), sanitize(&down.region));
    match (down.dry_run, down.deleted) {
        (true, true) => out.push_str(&format!("stack {stack} in {place} would be deleted\n")),
        (false, true) => out.push_str(&format!("{}\n", paint(GOOD.bold(), &format!("stack {stack} is deleted")))),
        (_, false) if down.exit() == Exit::No && down.not_resumed.is_empty() => {
            let why = format!("stack {stack} stays until all configuration sets are disconnected: run it again");
            out.push_str(&format!("{}\n", paint(BAD.bold(), &why)));
        }
        (_, false) => out.push_str(&format!("there is no stack {stack} in {place}\n")),
    }
    if down.deleted && down.disconnected.is_none() {
        let lost = "Its table was gone already, so what it had stopped, and which configuration sets publish to it, is not known: \
                    look at them in the SES console.";
        out.push_str(&paint(DOUBTFUL, &hanging("", lost, term.columns())));
    }
    for resumed in &down.resumed_late {
        out.push_str(&hanging(
            "",
            &format!("{}: stopped meanwhile, and resumed at SES", name(resumed)),
            term.columns(),
        ));
    }
    for (subject, reason) in &down.not_resumed {
        let text = format!("{}: still stopped, and SES refuses to resume it: {}", name(subject), sanitize(reason));
        out.push_str(&paint(BAD, &hanging("", &text, term.columns())));
    }
    if let Some(purged) = &down.purged {
        out.push_str(&self::purged(purged, term));
    }
    out.push_str(&stays(down, term));
    out
}

fn purged(purged: &Purged, term: TermStyle) -> String {
    let mut out = String::new();
    let mut line = |text: String| out.push_str(&hanging("", &text, term.columns()));
    if !purged.tables.is_empty() {
        line(format!("deleted: {}", purged.tables.iter().map(|table| name(table)).collect::<Vec<_>>().join(", ")));
    }
    for key in &purged.keys {
        line(format!(
            "deleted in {KEY_DAYS} days, and until then kept by `aws kms cancel-key-deletion`: {}",
            sanitize(key)
        ));
    }
    match (&purged.bucket, &purged.code) {
        (Some(bucket), _) => line(format!("deleted: bucket {}", sanitize(bucket))),
        (None, Some(bucket)) => line(format!("deleted: the code in bucket {}", sanitize(bucket))),
        (None, None) => {}
    }
    out
}

/// What is left in the account, and how to remove it.
fn stays(down: &Down, term: TermStyle) -> String {
    let mut what: Vec<String> = Vec::new();
    if !down.dry_run {
        what.extend(down.tables.iter().map(|table| format!("table {}", name(&table.name))));
        let keys: std::collections::BTreeSet<&String> =
            down.tables.iter().filter_map(|table| table.key.as_ref()).collect();
        what.extend(keys.into_iter().map(|key| format!("their key {}", sanitize(key))));
        what.extend(down.bucket.iter().map(|bucket| format!("the code in bucket {}", sanitize(bucket))));
    }
    if what.is_empty() {
        return String::new();
    }
    let mut out = hanging("", &format!("What stays: {}.", what.join("; ")), term.columns());
    if !down.tables.is_empty() {
        let stack = if down.stack == "ses-breaker" { String::new() } else { format!(" --stack {}", down.stack) };
        out.push_str(&sentence(
            &format!("To delete it, and all history with it: ses-breaker down --purge{stack}"),
            term,
        ));
    }
    out
}
