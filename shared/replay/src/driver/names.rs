//! The numbers of senders. Each decoding thread numbers the senders that it meets by itself, and forgets them when there are
//! many; here they get numbers in the order in which their units are applied, which does not depend on the threads.

use std::collections::{BTreeSet, VecDeque};

use pipeline::senders::Senders;
use reputation::subject::Subject;
use reputation::unit::SenderId;

use super::worker::DecodedChunk;

/// The senders that all workers have named.
#[derive(Debug, Default)]
pub(super) struct Names {
    workers: Vec<WorkerNames>,
    /// Senders that workers have named and forgotten, without any unit that counted.
    without_units: BTreeSet<Vec<Subject>>,
}

/// The senders that a worker has named.
#[derive(Debug, Default)]
struct WorkerNames {
    /// The number of generations that are over.
    over: usize,
    /// The generations after those.
    generations: VecDeque<Generation>,
}

/// The senders that a worker has named until it forgot them, under the indices that its chunks use.
#[derive(Debug, Default)]
struct Generation {
    known: Vec<KnownSender>,
    /// Chunks that have arrived and are not completely applied.
    chunks: usize,
}

/// A sender as named by a worker.
#[derive(Debug)]
enum KnownSender {
    /// None of its units has been applied.
    Named(Vec<Subject>),
    /// Its number in the replay.
    Joined(SenderId),
}

impl KnownSender {
    /// Its subjects, if none of its units has been applied.
    fn without_units(self) -> Option<Vec<Subject>> {
        match self {
            KnownSender::Named(subjects) => Some(subjects),
            KnownSender::Joined(_) => None,
        }
    }
}

impl Names {
    /// Takes the senders that a worker has named in another chunk, in the worker's order: chunks are applied in another
    /// order.
    pub(super) fn receive(&mut self, decoded: &mut DecodedChunk) {
        self.name(decoded.worker, decoded.generation, std::mem::take(&mut decoded.new_senders));
    }

    /// Takes the senders that a worker has named.
    pub(super) fn name(&mut self, worker: usize, generation: usize, senders: Vec<Vec<Subject>>) {
        if self.workers.len() <= worker {
            self.workers.resize_with(worker + 1, WorkerNames::default);
        }
        let WorkerNames { over, generations } = &mut self.workers[worker];
        let place = generation - *over;
        if generations.len() <= place {
            generations.resize_with(place + 1, Generation::default);
        }
        generations[place].known.extend(senders.into_iter().map(KnownSender::Named));
        generations[place].chunks += 1;
    }

    /// A chunk has been applied completely: a generation that a worker has forgotten is dropped with its last chunk.
    /// `keeps`: whether senders without units are to be known at the end.
    pub(super) fn used_up(&mut self, worker: usize, generation: usize, keeps: bool) {
        let WorkerNames { over, generations } = &mut self.workers[worker];
        generations[generation - *over].chunks -= 1;
        while generations.len() > 1
            && let Some(dropped) = generations.pop_front_if(|first| first.chunks == 0)
        {
            *over += 1;
            if keeps {
                self.without_units.extend(dropped.known.into_iter().filter_map(KnownSender::without_units));
            }
        }
    }

    /// The number of a worker's sender, and whether this is its first unit since the worker named it.
    pub(super) fn number(
        &mut self,
        (worker, generation): (usize, usize),
        theirs: SenderId,
        senders: &mut Senders,
    ) -> (SenderId, bool) {
        let WorkerNames { over, generations } = &mut self.workers[worker];
        let known = &mut generations[generation - *over].known[theirs.0 as usize];
        match known {
            KnownSender::Joined(id) => (*id, false),
            KnownSender::Named(subjects) => {
                let subjects = std::mem::take(subjects);
                let id = senders.join(std::slice::from_ref(&subjects))[0];
                *known = KnownSender::Joined(id);
                (id, true)
            }
        }
    }

    /// Senders that were named and had no unit that counts, in order; names are forgotten.
    pub(super) fn take_without_units(&mut self) -> Vec<Vec<Subject>> {
        let generations = self.workers.drain(..).flat_map(|names| names.generations);
        let mut others = std::mem::take(&mut self.without_units);
        others.extend(generations.flat_map(|names| names.known).filter_map(KnownSender::without_units));
        others.into_iter().collect()
    }

    /// Forgets the numbers of these senders, which get new ones with their next unit.
    pub(super) fn forget(&mut self, lost: &BTreeSet<SenderId>, senders: &Senders) {
        let generations = self.workers.iter_mut().flat_map(|names| &mut names.generations);
        for known in generations.flat_map(|names| &mut names.known) {
            if let KnownSender::Joined(id) = known
                && lost.contains(id)
            {
                *known = KnownSender::Named(senders.subjects(*id).to_vec());
            }
        }
    }
}
