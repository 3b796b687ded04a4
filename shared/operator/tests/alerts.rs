//! The commands that alerts tell people to type are commands that `ses-breaker` understands.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::ffi::OsString;

use operator::Exit;
use pipeline::evaluate::tell;
use pipeline::memory::MemoryReputation;
use pipeline::notice::{Alerts, Message, Notice, Outbox, Place, deliver};
use pipeline::ports::PortError;
use reputation::breaker::Input;
use reputation::detect::{Level, Rule, Verdict};
use reputation::judge::Judgement;
use reputation::subject::Key;
use reputation::time::Now;
use reputation::{Metric, Policy, Subject, Tally};

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

/// Every move of a breaker that has commands of its own, of subjects with names that a shell would take apart.
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
                Input::PersonHoldsClosed,
                Input::PersonReleases,
            ] {
                tell(&policy, &mut store, &key, input, now).await.unwrap();
                now = now.plus_minutes(90);
                deliver(&policy, &mut store, &mut post, now).await.unwrap();
            }
        }
        let mut store = MemoryReputation::under(&policy);
        let subject: Subject = subject.parse().unwrap();
        store.put(&Notice::gone(&subject, START)).await.unwrap();
        store.put(&Notice::denied(&subject, "AccessDeniedException", START)).await.unwrap();
        deliver(&policy, &mut store, &mut post, START).await.unwrap();
    }
    post.0
}

/// The words of a command line, as a shell takes it apart: bare words and single quotes are all there is.
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
    let place = Place { stack: "my-stack".to_owned(), region: "eu-west-1".to_owned() };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut lines = BTreeSet::new();
    for toml in ["", "[gate]\nin_use = false\n", "mode = \"shadow\"\n"] {
        for message in runtime.block_on(messages(toml)) {
            assert!(!message.commands.is_empty(), "{message:?}");
            lines.extend(message.commands.iter().map(|command| command.line(&place)));
        }
    }
    let verbs: BTreeSet<&str> = lines.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(verbs.into_iter().collect::<Vec<_>>(), ["pause", "release", "resume", "status"]);
    for line in lines {
        assert!(line.ends_with(" --stack my-stack --region eu-west-1"), "{line}");
        // Without credentials nobody is asked anything: what is understood is refused, what is not is bad usage.
        let nobody = ["--profile", "ses-breaker-never-there", "--quiet"].map(OsString::from);
        let exit = operator::cli::run(words(&line).into_iter().chain(nobody), START);
        assert_eq!(exit, Exit::Refused, "{line}");
    }
}
