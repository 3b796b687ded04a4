//! The commands that alerts print are accepted by `ses-breaker`, and do what the alert says.

use std::collections::BTreeSet;
use std::ffi::OsString;

use e2e::stack::Stack;
use operator::{Exit, cli};
use pipeline::evaluate::apply_input;
use pipeline::memory::MemoryReputation;
use pipeline::notice::{Alerts, Message, Notice, Outbox, Place, deliver};
use pipeline::ports::{PortError, Reputation as _};
use reputation::breaker::{Input, Override, State};
use reputation::detect::{Level, Rule, Verdict};
use reputation::judge::Judgement;
use reputation::subject::Key;
use reputation::time::Now;
use reputation::{Metric, Policy, Subject, Tally};
use terminal::{TermStyle, visible};

use crate::account::Account;
use crate::sender::{MORNING, hear, mails};

const START: Now = Now(1_791_273_600_000);

#[derive(Default)]
struct Post(Vec<Message>);

impl Alerts for Post {
    async fn write(&mut self, message: &Message) -> Result<(), PortError> {
        self.0.push(message.clone());
        Ok(())
    }

    async fn report(&mut self, _: &Notice, _: &str) -> Result<(), PortError> {
        Ok(())
    }
}

/// A message for each move of a breaker that has commands of its own, about subjects whose names need quoting in a shell.
async fn messages(toml: &str) -> Vec<Message> {
    let policy = Policy::from_toml(toml).unwrap();
    let verdict = |level| Verdict {
        level,
        metric: Metric::Complaint,
        rule: Rule::Ratio { window_hours: 24, line: 0.001 },
        from: START.minute(),
        until: START.minute().plus(1),
        tally: Tally { population: 90, bad: 30 },
    };
    let judgement = Judgement::default;
    let warned = Judgement { warn: Some(verdict(Level::Warn)), ..judgement() };
    let throttled = Judgement { throttle: Some(verdict(Level::Throttle)), ..judgement() };
    let paused = Judgement { pause: Some(verdict(Level::Pause)), ..judgement() };
    let fine = judgement();
    let mut post = Post::default();
    let gmail = policy.isp_map.by_name("gmail");
    for subject in
        ["configuration-set:(none)", "tag:campaign=it's $HOME", "identity:news.example", "tenant:t", "account"]
    {
        for isp in [None, gmail] {
            let key = Key { subject: subject.parse().unwrap(), isp };
            let mut store = MemoryReputation::under(&policy);
            let mut now = START;
            for input in [
                Input::Judged(&warned),
                Input::Judged(&throttled),
                Input::Judged(&paused),
                Input::Judged(&fine),
                Input::Incident,
                Input::PersonStops,
                Input::PersonBypasses,
                Input::PersonShadows,
                Input::PersonReleases,
            ] {
                apply_input(&policy, &mut store, &key, input, now).await.unwrap();
                now = now.plus_minutes(90);
                deliver(&policy, &mut store, &mut post, now).await.unwrap();
            }
        }
        let mut store = MemoryReputation::under(&policy);
        let subject: Subject = subject.parse().unwrap();
        store.put(&Notice::gone(&subject, START)).await.unwrap();
        store.put(&Notice::denied(&subject, "AccessDeniedException", START, START)).await.unwrap();
        deliver(&policy, &mut store, &mut post, START).await.unwrap();
    }
    post.0
}

/// Splits a command line into words as a shell does: only bare words and single quotes occur.
fn words(line: &str) -> Vec<OsString> {
    let (mut words, mut word, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for letter in line.chars() {
        match letter {
            letter if escaped => {
                word.push(letter);
                escaped = false;
            }
            '\'' => quoted = !quoted,
            '\\' if !quoted => escaped = true,
            ' ' if !quoted => words.push(std::mem::take(&mut word).into()),
            letter => {
                assert!(quoted || !"$`\"*?()<>|&;#~!{}[]".contains(letter), "{line}");
                word.push(letter);
            }
        }
    }
    assert!(!quoted && !escaped, "{line}");
    words.push(word.into());
    words
}

#[test]
fn every_command_in_every_alert_is_understood() {
    let place = Place { stack: "my-stack".to_owned(), region: "eu-west-1".to_owned(), ..Place::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut lines = BTreeSet::new();
    // As in links: lower case, with hyphens.
    let runbook = include_str!("../../../../infra/RUNBOOK.md").lines();
    let headings: BTreeSet<String> =
        runbook.filter_map(|line| Some(line.strip_prefix("### ")?.to_lowercase().replace(' ', "-"))).collect();
    for toml in ["", "[gate]\nin_use = false\n", "mode = \"shadow\"\n"] {
        for message in runtime.block_on(messages(toml)) {
            assert!(!message.commands.is_empty(), "{message:?}");
            assert!(headings.contains(&message.runbook), "the runbook has no section {}: {message:?}", message.runbook);
            lines.extend(message.commands.iter().map(|command| command.line(&place)));
        }
    }
    let verbs: BTreeSet<&str> = lines.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(verbs.into_iter().collect::<Vec<_>>(), ["bypass", "release", "resume", "status", "stop"]);
    for line in lines {
        assert!(line.ends_with(" --stack my-stack --region eu-west-1"), "{line}");
        // Without credentials nothing is sent: an accepted command ends as refused, any other as bad usage.
        let nobody = ["--profile", "ses-breaker-never-there", "--quiet"].map(OsString::from);
        let exit = operator::cli::run(words(&line).into_iter().chain(nobody), START);
        assert_eq!(exit, Exit::Refused, "{line}");
    }
}

/// The alerts that were sent by e-mail: subject and text.
fn letters(account: &Account) -> Vec<(String, String)> {
    account.cloud.state().published.iter().map(|form| (form["Subject"].clone(), form["Message"].clone())).collect()
}

#[tokio::test(start_paused = true)]
async fn an_incident_is_one_alert_per_level_and_its_undo_command_resumes() {
    let account = Account::with(&["news"]);
    let mut stack = Stack::new(&account.cloud, false);
    // A list that gets worse: 3 % of its mail bounces, then a third, then half.
    for (minute, delivered, bounced) in [(0, 1_060, 34), (2, 16, 8), (4, 15, 15)] {
        let sent = MORNING.plus_minutes(minute);
        hear(&account, &mut stack, &mails("news", &["outlook.com"], delivered, bounced, sent), sent.plus_minutes(1))
            .await;
        stack.tick(sent.plus_minutes(1)).await.unwrap();
        stack.enforce(true, sent.plus_minutes(1)).await.unwrap();
    }
    let alerts = letters(&account);
    let titles: Vec<&str> = alerts.iter().map(|(title, _)| title.as_str()).collect();
    assert_eq!(
        titles,
        [
            "[WARNING, still sending] news: 3.1 % of 1094 mails bounced hard",
            "[WARNING, still sending] news: 33 % of 24 mails bounced hard",
            "[STOPPED] news: 43 % of 54 mails bounced hard",
        ]
    );
    assert!(!account.cloud.state().sets["news"]);
    insta::assert_snapshot!(format!("Subject: {}\n\n{}", alerts[2].0, alerts[2].1));

    let undo = alerts[2].1.lines().find_map(|line| line.strip_prefix("Undo: ")).unwrap();
    let now = MORNING.plus_minutes(9);
    // The enforcer, which a new desired state wakes.
    let enforcer = async {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        stack.enforce(false, now).await.unwrap();
    };
    let access = account.access();
    let (answer, ()) = tokio::join!(cli::answered(&access, words(undo), now, TermStyle::new(None)), enforcer);
    let answer = answer.unwrap();
    assert_eq!(answer.exit, Exit::Done, "{}", answer.text);
    assert!(account.cloud.state().sets["news"]);
    // It stays resumed: earlier mail no longer judges it. And the alert names the person.
    for minute in 10..90 {
        stack.tick(MORNING.plus_minutes(minute)).await.unwrap();
        stack.enforce(minute % 5 == 0, MORNING.plus_minutes(minute)).await.unwrap();
    }
    assert!(account.cloud.state().sets["news"]);
    let alerts = letters(&account);
    let [(title, text)] = &alerts[3..] else { panic!("{alerts:?}") };
    assert_eq!(title, "[RESUMED by ann] news: a person resumed it");
    assert!(text.contains(&format!("(said by {})", crate::account::ARN)), "{text}");
}

/// A history that leads to an account's state.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scene {
    Warned,
    Stopped,
    Testing,
    StoppedByAPerson,
    Bypassed,
    InShadow,
    Withheld,
    SpreadOverSets,
    SlowedAtAnIsp,
    StoppedAtAnIsp,
    IspInTrouble,
}

const SCENES: [Scene; 11] = [
    Scene::Warned,
    Scene::Stopped,
    Scene::Testing,
    Scene::StoppedByAPerson,
    Scene::Bypassed,
    Scene::InShadow,
    Scene::Withheld,
    Scene::SpreadOverSets,
    Scene::SlowedAtAnIsp,
    Scene::StoppedAtAnIsp,
    Scene::IspInTrouble,
];

const BOTH: [&str; 2] = ["gmail.com", "outlook.com"];

/// Plays a scene; returns the time at its end.
async fn played(scene: Scene) -> (Account, Stack, Now) {
    let account = Account::with(&["news", "shop", "club", "sale"]);
    let gate = matches!(scene, Scene::SlowedAtAnIsp | Scene::StoppedAtAnIsp | Scene::IspInTrouble);
    if scene == Scene::Withheld {
        Stack::push(&account.cloud, "[breaker]\nmax_pauses_per_hour = 1\n").await;
    }
    if gate {
        let sets = ["news", "shop", "club"].map(|set| format!("[warmup.sets.{set}]\nstart = 5000\ntarget = 5000\n"));
        Stack::push(&account.cloud, &format!("[gate]\nin_use = true\n{}", sets.concat())).await;
    }
    let mut stack = Stack::new(&account.cloud, gate);
    let now = MORNING.plus_minutes(1);
    match scene {
        Scene::Warned => hear(&account, &mut stack, &mails("news", &BOTH, 1_060, 34, MORNING), now).await,
        Scene::Stopped => hear(&account, &mut stack, &mails("news", &BOTH, 60, 40, MORNING), now).await,
        Scene::Testing => {
            hear(&account, &mut stack, &mails("news", &BOTH, 60, 40, MORNING), now).await;
            let later = now.plus_minutes(31);
            stack.tick(later).await.unwrap();
            stack.enforce(true, later).await.unwrap();
            return (account, stack, later);
        }
        Scene::StoppedByAPerson | Scene::Bypassed | Scene::InShadow => {
            hear(&account, &mut stack, &mails("news", &BOTH, 60, 40, MORNING), now).await;
            let verbs = [(Scene::StoppedByAPerson, "stop"), (Scene::Bypassed, "bypass"), (Scene::InShadow, "shadow")];
            let (_, verb) = verbs.into_iter().find(|(known, _)| *known == scene).unwrap();
            let later = now.plus_minutes(2);
            let words = words(&format!("ses-breaker {verb} configuration-set:news"));
            assert_eq!(typed(&account, &mut stack, words, later).await.exit, Exit::Done);
            return (account, stack, later.plus_minutes(1));
        }
        Scene::Withheld => {
            hear(&account, &mut stack, &mails("shop", &BOTH, 4, 8, MORNING), now).await;
            hear(&account, &mut stack, &mails("sale", &BOTH, 0, 9, MORNING), now).await;
        }
        Scene::SpreadOverSets => {
            let mut events = Vec::new();
            for set in ["news", "shop", "club", "sale"] {
                let of_one_identity = mails(set, &BOTH, 34, 6, MORNING).into_iter();
                events.extend(of_one_identity.map(|event| event.replace(&format!("{set}.example"), "one.example")));
            }
            hear(&account, &mut stack, &events, now).await;
        }
        Scene::SlowedAtAnIsp => {
            let mut events = mails("news", &["outlook.com"], 36, 11, MORNING);
            events.extend(mails("news", &["gmail.com"], 400, 2, MORNING));
            hear(&account, &mut stack, &events, now).await;
        }
        Scene::StoppedAtAnIsp => {
            let mut events = mails("news", &["outlook.com"], 20, 20, MORNING);
            events.extend(mails("news", &["gmail.com"], 400, 2, MORNING));
            hear(&account, &mut stack, &events, now).await;
        }
        Scene::IspInTrouble => {
            let mut events = Vec::new();
            for set in ["news", "shop", "club"] {
                events.extend(mails(set, &["outlook.com"], 30, 0, Now(MORNING.0 - 7_200_000)));
                events.extend(mails(set, &["outlook.com"], 30, 30, MORNING));
                events.extend(mails(set, &["gmail.com"], 600, 0, MORNING));
            }
            hear(&account, &mut stack, &events, now).await;
        }
    }
    (account, stack, now)
}

/// Runs a command with the enforcer, which a new desired state wakes.
async fn typed(account: &Account, stack: &mut Stack, words: Vec<OsString>, now: Now) -> operator::Answer {
    let enforcer = async {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        stack.enforce(false, now).await.unwrap();
    };
    let access = account.access();
    let (answer, ()) = tokio::join!(cli::answered(&access, words.clone(), now, TermStyle::new(None)), enforcer);
    answer.unwrap_or_else(|failure| panic!("{words:?}: {failure}"))
}

const VERBS: [&str; 5] = ["resume", "stop", "bypass", "shadow", "release"];

/// The commands that a text prints, if they change something or show the status.
fn printed(text: &str) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for (at, _) in text.match_indices("ses-breaker ") {
        // Pages have the width of a terminal; a longer command continues on the next line.
        let (first, next) = text[at..].split_once('\n').unwrap_or((&text[at..], ""));
        let first = first.split(';').next().unwrap_or_default();
        let goes_on = next.split_whitespace().next().unwrap_or_default();
        let line =
            if first.split(' ').count() > 2 { first.to_owned() } else { format!("{} {goes_on}", first.trim_end()) };
        let verb = line.split(' ').nth(1).unwrap_or_default();
        if VERBS.contains(&verb) || verb == "status" {
            lines.insert(line.trim().trim_end_matches(['.', ')']).to_owned());
        }
    }
    lines
}

/// The state and the override of the breaker of each subject in a command.
async fn after(account: &Account, words: &[OsString]) -> Vec<(Key, State, Override)> {
    let words: Vec<&str> = words.iter().map(|word| word.to_str().unwrap()).collect();
    let isp = words.iter().position(|word| *word == "--isp").map(|at| words[at + 1]);
    let policy = Policy::default();
    let isp = isp.map(|name| policy.isp_map.by_name(name).unwrap());
    let mut store = account.access().reputation(&policy);
    let mut found = Vec::new();
    let (mut rest, mut subjects) = (words[2..].iter(), Vec::new());
    while let Some(word) = rest.next() {
        match word.starts_with("--") {
            true => _ = rest.next(),
            false => subjects.push(word.parse::<Subject>().unwrap()),
        }
    }
    for subject in subjects {
        let key = Key { subject, isp };
        let breaker = store.subject_state(&key.subject, MORNING.plus_minutes(40)).await.unwrap().breaker(isp).breaker;
        found.push((key, breaker.state, breaker.overridden));
    }
    found
}

/// Each command has the effect that its verb names, at SES and in the breaker.
#[tokio::test(start_paused = true)]
async fn every_command_that_an_alert_or_a_page_prints_does_what_it_says() {
    let mut tried = BTreeSet::new();
    for scene in SCENES {
        let (account, _stack, now) = played(scene).await;
        let alerts = letters(&account);
        let mut commands = printed(&alerts.last().unwrap_or_else(|| panic!("{scene:?} is silent")).1);
        let access = account.access();
        let others = [(Scene::IspInTrouble, "account"), (Scene::Withheld, "configuration-set:sale")];
        let subject = others.into_iter().find(|(known, _)| *known == scene);
        let subject = subject.map_or("configuration-set:news", |(_, subject)| subject);
        for page in ["status", "explain"] {
            let words = words(&format!("ses-breaker {page} {subject}"));
            let page = cli::answered(&access, words, now, TermStyle::new(None)).await.unwrap();
            commands.extend(printed(&visible(&page.text)));
        }
        assert!(!commands.is_empty(), "{scene:?}");
        for line in commands {
            // Each command starts from the same scene.
            let (account, mut stack, now) = played(scene).await;
            let words = words(&line);
            let verb = words[1].to_str().unwrap().to_owned();
            let answer = typed(&account, &mut stack, words.clone(), now).await;
            assert_eq!(answer.exit, Exit::Done, "{scene:?}: {line}\n{}", answer.text);
            tried.insert((format!("{scene:?}"), verb.clone()));
            if verb == "status" {
                continue;
            }
            for (key, state, overridden) in after(&account, &words).await {
                let is_open = matches!(state, State::Open { .. });
                let (stopped, forced) = match verb.as_str() {
                    "resume" | "release" => (false, Override::None),
                    "bypass" => (false, Override::ForcedClosed),
                    "shadow" => (false, Override::Shadow),
                    _ => (true, Override::ForcedOpen),
                };
                assert_eq!((is_open, overridden), (stopped, forced), "{scene:?}: {line}");
                if let (Subject::ConfigurationSet(set), None) = (&key.subject, key.isp) {
                    assert_eq!(account.cloud.state().sets[&**set], !stopped, "{scene:?}: {line}");
                }
            }
        }
    }
    let tried: Vec<String> = tried.into_iter().map(|(scene, verb)| format!("{scene} {verb}")).collect();
    insta::assert_snapshot!(tried.join("\n"));
}
