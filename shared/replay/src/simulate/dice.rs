//! Random numbers, the same on every machine.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// One named stream of random numbers: draws from one stream never shift those of another.
#[derive(Clone, Debug)]
pub(super) struct Dice(ChaCha8Rng);

/// The most trials of one draw: the chance of zero successes must stay far above the smallest number.
const MAX_TRIALS: u64 = 256;

impl Dice {
    /// The stream of this seed with this name.
    pub(super) fn new(seed: u64, name: &str) -> Dice {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        for (place, byte) in name.bytes().enumerate() {
            let slot = &mut key[8 + place % 24];
            *slot = slot.rotate_left(3) ^ byte;
        }
        Dice(ChaCha8Rng::from_seed(key))
    }

    /// A number from 0 up to, but not including, 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number between `low` and `high`.
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// The number of successes in `trials` with this chance each: a binomial draw by inversion.
    pub(super) fn successes(&mut self, trials: u64, chance: f64) -> u64 {
        if chance <= 0.0 || trials == 0 {
            return 0;
        }
        if chance >= 1.0 {
            return trials;
        }
        if chance > 0.5 {
            return trials - self.successes(trials, 1.0 - chance);
        }
        let mut successes = 0;
        let mut rest = trials;
        while rest > 0 {
            let trials = rest.min(MAX_TRIALS);
            successes += self.inverted(trials, chance);
            rest -= trials;
        }
        successes
    }

    fn inverted(&mut self, trials: u64, chance: f64) -> u64 {
        let odds = chance / (1.0 - chance);
        let mut probability = (1.0 - chance).powi(i32::try_from(trials).unwrap_or(i32::MAX));
        let mut left = self.unit();
        let mut successes = 0;
        while left >= probability && successes < trials {
            left -= probability;
            successes += 1;
            probability *= odds * (trials + 1 - successes) as f64 / successes as f64;
        }
        successes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_mean_and_the_spread_of_a_binomial() {
        let mut dice = Dice::new(7, "test");
        for (trials, chance) in [(10, 0.3), (300, 0.01), (1_000, 0.5), (1_000, 0.97), (40, 0.999)] {
            let draws: Vec<f64> = (0..4_000).map(|_| dice.successes(trials, chance) as f64).collect();
            let mean = draws.iter().sum::<f64>() / draws.len() as f64;
            let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / draws.len() as f64;
            let (expected, spread) = (trials as f64 * chance, trials as f64 * chance * (1.0 - chance));
            assert!((mean - expected).abs() < 5.0 * (spread / 4_000.0).sqrt(), "{trials} × {chance}: {mean}");
            assert!((variance / spread - 1.0).abs() < 0.15, "{trials} × {chance}: {variance} for {spread}");
        }
        assert_eq!((dice.successes(9, 0.0), dice.successes(9, 1.0), dice.successes(0, 0.5)), (0, 9, 0));
    }

    #[test]
    fn streams_differ_by_seed_and_name() {
        let first = |seed, name| Dice::new(seed, name).unit();
        assert_eq!(first(1, "a").to_bits(), first(1, "a").to_bits());
        assert!(first(1, "a") != first(2, "a") && first(1, "a") != first(1, "b"));
    }
}
