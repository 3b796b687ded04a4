//! Senders: the distinct lists of subjects that mail belongs to. There are few of them, and units are many, so a unit
//! carries an index instead of names.

use std::collections::HashMap;

use reputation::Subject;
use reputation::unit::SenderId;

/// The senders seen so far.
#[derive(Clone, Debug, Default)]
pub struct Senders {
    subjects: Vec<Vec<Subject>>,
    by_name: HashMap<Box<str>, SenderId>,
    last: Option<(Box<str>, SenderId)>,
}

impl Senders {
    /// The sender with this name, which must tell it from all others; `subjects` is asked when it is a new one.
    pub fn intern(&mut self, name: &str, subjects: impl FnOnce() -> Vec<Subject>) -> SenderId {
        // Mail comes in runs of one sender.
        if let Some((last, id)) = &self.last
            && **last == *name
        {
            return *id;
        }
        let id = match self.by_name.get(name) {
            Some(id) => *id,
            None => {
                let id = SenderId(u32::try_from(self.subjects.len()).unwrap_or(u32::MAX));
                self.subjects.push(subjects());
                self.by_name.insert(name.into(), id);
                id
            }
        };
        self.last = Some((name.into(), id));
        id
    }

    /// Whose reputation a mail of this sender touches.
    pub fn subjects(&self, id: SenderId) -> &[Subject] {
        self.subjects.get(id.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.subjects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }

    /// The senders from the `from`-th on, for whoever joins several lists into one.
    pub fn since(&self, from: usize) -> &[Vec<Subject>] {
        self.subjects.get(from..).unwrap_or(&[])
    }

    /// Takes senders over from another list, and says under which index each is known in this one.
    pub fn join(&mut self, theirs: &[Vec<Subject>]) -> Vec<SenderId> {
        let name = |subjects: &[Subject]| subjects.iter().map(|subject| format!("{subject}\0")).collect::<String>();
        theirs.iter().map(|subjects| self.intern(&name(subjects), || subjects.clone())).collect()
    }
}
