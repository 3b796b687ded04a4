//! Senders: the distinct lists of subjects that mail belongs to. There are few senders and many units, so a unit
//! carries an index instead of names.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use reputation::unit::SenderId;
use reputation::{Isp, Subject};

/// The name of a sender, made of parts: different lists of parts make different names, whatever the parts contain.
///
/// Parts come from events, and JSON can hold any character. So a zero character in a part is written as zero and one,
/// and the end of a part as two zeros, or as zero and two if the part is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SenderName(String);

impl SenderName {
    /// The name of the sender whose mail belongs to these subjects.
    pub fn of(subjects: &[Subject]) -> SenderName {
        let mut name = SenderName::default();
        for subject in subjects {
            name.push(Some(&subject.to_string()));
        }
        name
    }

    /// Clears the name, and keeps its memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds a part; an absent one differs from an empty one.
    pub fn push(&mut self, part: Option<&str>) {
        let Some(part) = part else { return self.0.push_str("\0\u{2}") };
        for (index, piece) in part.split('\0').enumerate() {
            if index > 0 {
                self.0.push_str("\0\u{1}");
            }
            self.0.push_str(piece);
        }
        self.0.push_str("\0\0");
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The senders seen so far.
#[derive(Clone, Debug, Default)]
pub struct Senders {
    subjects: Vec<Vec<Subject>>,
    by_name: HashMap<Box<str>, SenderId>,
    last: Option<(Box<str>, SenderId)>,
    /// Indices of senders that were forgotten, the lowest last.
    free: Vec<SenderId>,
}

impl Senders {
    /// The sender with this name, which must be unique; `subjects` is called if the sender is new.
    pub fn intern(&mut self, name: &str, subjects: impl FnOnce() -> Vec<Subject>) -> SenderId {
        // Mail often comes in runs of one sender.
        if let Some((last, id)) = &self.last
            && **last == *name
        {
            return *id;
        }
        let id = match self.by_name.get(name) {
            Some(id) => *id,
            None => {
                let id = match self.free.pop() {
                    Some(id) => {
                        self.subjects[id.0 as usize] = subjects();
                        id
                    }
                    None => {
                        let id = SenderId(u32::try_from(self.subjects.len()).unwrap_or(u32::MAX));
                        self.subjects.push(subjects());
                        id
                    }
                };
                self.by_name.insert(name.into(), id);
                id
            }
        };
        self.last = Some((name.into(), id));
        id
    }

    /// The subjects whose reputation a mail of this sender changes.
    pub fn subjects(&self, id: SenderId) -> &[Subject] {
        self.subjects.get(id.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// The subjects of senders, each with the ISPs at which mail of it changed: those that are to be judged.
    pub fn subjects_at(&self, changed: impl IntoIterator<Item = (SenderId, Isp)>) -> BTreeMap<Subject, BTreeSet<Isp>> {
        let mut subjects: BTreeMap<Subject, BTreeSet<Isp>> = BTreeMap::new();
        for (sender, isp) in changed {
            for subject in self.subjects(sender) {
                match subjects.get_mut(subject) {
                    Some(isps) => _ = isps.insert(isp),
                    None => _ = subjects.insert(subject.clone(), [isp].into()),
                }
            }
        }
        subjects
    }

    /// Removes these senders. Their indices are reused, so nothing may refer to them any more.
    pub fn forget(&mut self, senders: &BTreeSet<SenderId>) {
        self.by_name.retain(|_, id| !senders.contains(id));
        self.last = None;
        for id in senders {
            self.subjects[id.0 as usize] = Vec::new();
        }
        self.free.extend(senders);
        self.free.sort_unstable_by(|a, b| b.cmp(a));
        self.free.dedup();
    }

    /// How many indices are in use; the index of a removed sender, which has no subjects, counts until it is reused.
    pub fn len(&self) -> usize {
        self.subjects.len()
    }

    /// Whether there are no senders.
    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }

    /// The senders from the `from`-th on, to join several lists into one.
    pub fn since(&self, from: usize) -> &[Vec<Subject>] {
        self.subjects.get(from..).unwrap_or(&[])
    }

    /// Adds senders from another list, and returns the index of each in this one.
    pub fn join(&mut self, theirs: &[Vec<Subject>]) -> Vec<SenderId> {
        let intern = |subjects: &Vec<Subject>| self.intern(SenderName::of(subjects).as_str(), || subjects.clone());
        theirs.iter().map(intern).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A small alphabet, so that parts collide, with all characters that have a meaning in names.
    fn parts() -> impl Strategy<Value = Vec<Option<String>>> {
        prop::collection::vec(prop::option::of("[\u{0}\u{1}\u{2}a]{0,4}"), 0..4)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn different_parts_make_different_names(one in parts(), other in parts()) {
            let name = |parts: &[Option<String>]| {
                let mut name = SenderName::default();
                parts.iter().for_each(|part| name.push(part.as_deref()));
                name.0
            };
            prop_assert_eq!(name(&one) == name(&other), one == other, "{:?} {:?}", one, other);
        }

        /// A sender that was removed is new the next time, whatever index it gets; the others keep theirs.
        #[test]
        fn forgotten_senders_are_not_mixed_up_with_those_that_take_their_indices(
            rounds in prop::collection::vec((prop::collection::vec(0usize..9, 1..9), prop::collection::btree_set(0usize..9, 0..9)), 1..9),
        ) {
            let subjects = |name: usize| vec![Subject::ConfigurationSet(name.to_string().as_str().into())];
            let mut senders = Senders::default();
            let mut known: BTreeMap<usize, SenderId> = BTreeMap::new();
            for (seen, forgotten) in rounds {
                for name in seen {
                    let id = senders.join(&[subjects(name)])[0];
                    prop_assert_eq!(*known.entry(name).or_insert(id), id);
                }
                let ids = known.extract_if(.., |name, _| forgotten.contains(name)).map(|(_, id)| id).collect();
                senders.forget(&ids);
                for (name, id) in &known {
                    let expected = subjects(*name);
                    prop_assert_eq!(senders.subjects(*id), expected.as_slice());
                }
                let all: BTreeSet<&SenderId> = known.values().collect();
                prop_assert_eq!(all.len(), known.len());
                prop_assert!(senders.len() <= 9);
            }
        }

        #[test]
        fn senders_are_joined_without_being_mixed_up(
            sets in prop::collection::vec(prop::collection::vec("[\u{0}a:]{0,2}(configuration-set:)?[\u{0}a]{0,2}", 1..3), 1..6),
        ) {
            let subjects = |names: &Vec<String>| -> Vec<Subject> {
                names.iter().map(|name| Subject::ConfigurationSet(name.as_str().into())).collect()
            };
            let lists: Vec<Vec<Subject>> = sets.iter().map(subjects).collect();
            let mut senders = Senders::default();
            let ids = senders.join(&lists);
            for (id, subjects) in ids.iter().zip(&lists) {
                prop_assert_eq!(senders.subjects(*id), subjects.as_slice());
            }
        }
    }
}
