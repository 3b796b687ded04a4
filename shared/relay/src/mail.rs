//! What the relay has to know of a mail, and where it is taken from.

use std::collections::BTreeMap;
use std::fmt;

use permits::Class;

use crate::address::{self, AddressError};
use crate::mime::{Header, HeaderError};
use crate::ports::Sender;

/// SES takes at most this many recipients of a message, and this many entries of a bulk call (Amazon SES Developer Guide,
/// "Service quotas").
pub(crate) const MAX_RECIPIENTS: u64 = 50;

/// A mail, as far as it matters for its permits.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Mail {
    pub(crate) sender: Sender,
    pub(crate) class: Class,
    /// How many recipients, by domain.
    pub(crate) recipients: BTreeMap<String, u64>,
    /// Whether the relay keeps it while it may not go; otherwise its caller does.
    pub(crate) holds: bool,
}

/// Never shows a domain.
impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mail of {:?}, {} recipients", self.sender, self.recipients.values().sum::<u64>())
    }
}

/// What a request says about a mail; all else comes from the rules.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) set: Option<String>,
    pub(crate) from: Option<String>,
    /// The value of the message tag that names the class.
    pub(crate) class: Option<String>,
    pub(crate) to: Recipients,
}

/// How mail is judged that does not say everything itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// The configuration set of mail that names none.
    pub(crate) default_set: Option<String>,
    /// The message tag that names the class.
    pub(crate) class_tag: String,
    /// The classes of mail that names none; the first that fits.
    pub(crate) classes: Vec<ClassRule>,
    /// The classes of which mail is held that no rule says otherwise of.
    pub(crate) held: Vec<Class>,
}

/// A rule for the class of mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClassRule {
    /// Of mail with this configuration set; `None` for any.
    pub(crate) set: Option<String>,
    /// Of mail from this domain; `None` for any.
    pub(crate) identity: Option<String>,
    pub(crate) class: Class,
    /// Whether mail that fits is held; `None` as its class.
    pub(crate) holds: Option<bool>,
}

/// Why a mail cannot be judged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unclear {
    #[error("the mail names no configuration set, and the relay has no default_configuration_set")]
    NoSet,
    #[error("the configuration set has a character that no set has, or more than 64")]
    Set,
    #[error("the mail has no From address")]
    NoFrom,
    #[error("From: {0}")]
    From(AddressError),
    #[error("recipients: {0}")]
    To(AddressError),
    #[error("the mail has no recipient")]
    NoRecipient,
    #[error("Recipient count exceeds {MAX_RECIPIENTS}.")]
    TooMany,
    #[error("the class of the mail is neither `bulk` nor `critical`")]
    Class,
    #[error(transparent)]
    Header(#[from] HeaderError),
}

/// Recipients, counted by domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recipients(BTreeMap<String, u64>);

impl Recipients {
    /// Adds the addresses of a list.
    pub(crate) fn add(&mut self, list: &str) -> Result<(), Unclear> {
        for domain in address::domains(list).map_err(Unclear::To)? {
            *self.0.entry(domain).or_default() += 1;
        }
        Ok(())
    }

    /// Adds a text that must be one address.
    pub(crate) fn add_one(&mut self, address: &str) -> Result<(), Unclear> {
        let domain = address::domain(address).map_err(Unclear::To)?;
        *self.0.entry(domain).or_default() += 1;
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The field that names the configuration set of raw mail ("Specifying a configuration set when you send email", Amazon SES
/// Developer Guide).
pub(crate) const SET_FIELD: &str = "X-SES-CONFIGURATION-SET";
/// The field that has the message tags of raw mail.
pub(crate) const TAGS_FIELD: &str = "X-SES-MESSAGE-TAGS";
/// The field that names the class of raw mail.
pub(crate) const CLASS_FIELD: &str = "X-SES-BREAKER-CLASS";

impl Said {
    /// Adds what the header of raw mail says, where the request says nothing.
    pub(crate) fn complete(&mut self, mail: &[u8], header: &Header, tag: &str) -> Result<(), Unclear> {
        if self.from.is_none() {
            self.from = header.one(mail, "From")?;
        }
        if self.set.is_none() {
            self.set = header.one(mail, SET_FIELD)?.filter(|set| !set.is_empty());
        }
        if self.class.is_none() {
            self.class = match header.one(mail, TAGS_FIELD)?.and_then(|tags| tag_in(&tags, tag)) {
                Some(class) => Some(class),
                None => header.one(mail, CLASS_FIELD)?,
            };
        }
        if self.to.is_empty() {
            for name in ["To", "Cc", "Bcc"] {
                for list in header.all(mail, name)? {
                    self.to.add(&list)?;
                }
            }
        }
        Ok(())
    }
}

/// The value of a tag in `name=value, name=value`.
fn tag_in(tags: &str, wanted: &str) -> Option<String> {
    let pairs = tags.split([',', ';']).filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.trim(), value.trim())).find(|(name, _)| *name == wanted).map(|(_, v)| v.to_owned())
}

impl Rules {
    /// The mail that a request is about.
    pub(crate) fn judge(&self, said: Said) -> Result<Mail, Unclear> {
        let set = said.set.filter(|set| !set.is_empty()).or_else(|| self.default_set.clone()).ok_or(Unclear::NoSet)?;
        if !is_set_name(&set) {
            return Err(Unclear::Set);
        }
        let from = said.from.filter(|from| !from.trim().is_empty()).ok_or(Unclear::NoFrom)?;
        let mut authors = address::domains(&from).map_err(Unclear::From)?;
        if authors.is_empty() {
            return Err(Unclear::NoFrom);
        }
        let identity = authors.swap_remove(0);
        let rule = self.rule_of(&set, &identity);
        let class = match said.class.as_deref() {
            Some(class) => class_named(class).ok_or(Unclear::Class)?,
            None => rule.map_or(Class::Bulk, |rule| rule.class),
        };
        let holds = rule.and_then(|rule| rule.holds).unwrap_or_else(|| self.held.contains(&class));
        let recipients = said.to.0;
        match recipients.values().sum() {
            0 => Err(Unclear::NoRecipient),
            1..=MAX_RECIPIENTS => Ok(Mail { sender: Sender { set, identity }, class, recipients, holds }),
            _ => Err(Unclear::TooMany),
        }
    }

    fn rule_of(&self, set: &str, identity: &str) -> Option<&ClassRule> {
        let fits = |rule: &&ClassRule| {
            rule.set.as_deref().is_none_or(|wanted| wanted == set)
                && rule.identity.as_deref().is_none_or(|wanted| wanted == identity)
        };
        self.classes.iter().find(fits)
    }
}

/// A class by its name.
pub(crate) fn class_named(name: &str) -> Option<Class> {
    Class::ALL.into_iter().find(|class| class.name().eq_ignore_ascii_case(name.trim()))
}

/// Whether it can be the name of a configuration set (CreateConfigurationSet, API reference).
pub(crate) fn is_set_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        let rule = |set: Option<&str>, identity: Option<&str>| ClassRule {
            set: set.map(str::to_owned),
            identity: identity.map(str::to_owned),
            class: Class::Critical,
            holds: None,
        };
        Rules {
            default_set: Some("news".to_owned()),
            class_tag: "ses-breaker-class".to_owned(),
            classes: vec![rule(Some("codes"), None), rule(None, Some("login.example"))],
            held: Vec::new(),
        }
    }

    fn of(header: &str) -> Result<Mail, Unclear> {
        let mut said = Said::default();
        let parsed = Header::parse(header.as_bytes())?;
        said.complete(header.as_bytes(), &parsed, "ses-breaker-class")?;
        rules().judge(said)
    }

    #[test]
    fn raw_mail_is_judged_by_its_header_alone() {
        let mail =
            of("From: \"A, B\" <a@News.example>\nTo: x@gmail.com, y@yahoo.com\nCc: z@gmail.com\nBcc: q@gmail.com\n\n");
        let mail = mail.unwrap();
        assert_eq!((mail.sender.set.as_str(), mail.sender.identity.as_str()), ("news", "news.example"));
        assert_eq!(mail.class, Class::Bulk);
        assert_eq!(mail.recipients, BTreeMap::from([("gmail.com".to_owned(), 3), ("yahoo.com".to_owned(), 1)]));
    }

    #[test]
    fn the_class_is_taken_from_the_tag_then_the_field_then_the_rules() {
        let check = |fields: &str, expected: Class| {
            let mail = of(&format!("From: a@b.example\nTo: x@gmail.com\n{fields}\n\n")).unwrap();
            assert_eq!(mail.class, expected, "{fields}");
        };
        check("X-A: b", Class::Bulk);
        check("X-SES-CONFIGURATION-SET: codes", Class::Critical);
        check("X-SES-CONFIGURATION-SET: codes\nX-SES-BREAKER-CLASS: bulk", Class::Bulk);
        check("X-SES-BREAKER-CLASS: Critical", Class::Critical);
        check("X-SES-BREAKER-CLASS: bulk\nX-SES-MESSAGE-TAGS: a=b, ses-breaker-class=critical", Class::Critical);
        let mail = of("From: a@login.example\nTo: x@gmail.com\n\n").unwrap();
        assert_eq!(mail.class, Class::Critical);
    }

    #[test]
    fn a_rule_says_whether_mail_is_held_and_otherwise_its_class_does() {
        let check = |rules: &Rules, set: &str, class: &str, expected: bool| {
            let header = format!("From: a@b.example\nTo: x@gmail.com\nX-SES-CONFIGURATION-SET: {set}\n{class}\n\n");
            let mut said = Said::default();
            said.complete(header.as_bytes(), &Header::parse(header.as_bytes()).unwrap(), "t").unwrap();
            assert_eq!(rules.judge(said).unwrap().holds, expected, "{set} {class}");
        };
        let mut rules = Rules { held: vec![Class::Bulk], ..rules() };
        check(&rules, "news", "X-A: b", true);
        check(&rules, "news", "X-SES-BREAKER-CLASS: critical", false);
        check(&rules, "codes", "X-A: b", false);
        check(&rules, "codes", "X-SES-BREAKER-CLASS: bulk", true);
        rules.classes[0].holds = Some(true);
        check(&rules, "codes", "X-A: b", true);
        rules.classes[0].holds = Some(false);
        check(&rules, "codes", "X-SES-BREAKER-CLASS: bulk", false);
        check(&Rules { held: Vec::new(), ..rules }, "news", "X-A: b", false);
    }

    #[test]
    fn what_cannot_be_judged_is_refused_with_what_is_missing_and_without_an_address() {
        let many: Vec<String> = (0..51).map(|number| format!("r{number}@gmail.com")).collect();
        let many = format!("From: a@b.example\nTo: {}\n\n", many.join(", "));
        for (header, expected) in [
            ("To: x@gmail.com\n\n", "the mail has no From address"),
            ("From: friends:;\nTo: x@gmail.com\n\n", "the mail has no From address"),
            ("From: a@b.example\n\n", "the mail has no recipient"),
            ("From: secret\nTo: x@gmail.com\n\n", "From: an address has no local part or no `@`"),
            ("From: a@b.example\nTo: secret@\n\n", "recipients: what follows the `@` of an address is not a domain"),
            (
                "From: a@b.example\nTo: x@gmail.com\nX-SES-BREAKER-CLASS: urgent\n\n",
                "the class of the mail is neither `bulk` nor `critical`",
            ),
            (
                "From: a@b.example\nTo: x@gmail.com\nX-SES-CONFIGURATION-SET: a b\n\n",
                "the configuration set has a character that no set has, or more than 64",
            ),
            ("From: a@b.example\nFrom: c@d.example\nTo: x@gmail.com\n\n", "the field From occurs more than once"),
            (&many, "Recipient count exceeds 50."),
        ] {
            assert_eq!(of(header).unwrap_err().to_string(), expected);
        }
    }
}
