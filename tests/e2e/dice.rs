//! Dice: numbers that look random, and are the same for the same seed.

use crate::data::noise;

/// A source of numbers. Each draw depends on the seed and on how often was drawn before.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The next number: a seed for content that no other draw gives.
    pub fn seed(&self) -> u64 {
        self.0
    }

    fn draw(&mut self) -> u64 {
        self.0 += 1;
        u64::from_le_bytes(noise(self.0, 8).try_into().unwrap())
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit
    }

    /// A number of `from..to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from)
    }

    pub fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// Other dice: their numbers don't depend on how often these are drawn from later.
    pub fn other(&mut self) -> Dice {
        // far from all other seeds, and small enough to count up from
        Dice(self.draw() >> 1)
    }
}
