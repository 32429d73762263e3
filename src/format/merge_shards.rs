//! The merging of shards: one shard gets all blocks and recipes of several small ones.

use std::collections::HashMap;

use super::block::{Directory, Summary};
use super::shard::{Recipes, Shard, ShardRecipe};
use crate::error::{Error, Result};
use crate::format::limits;
use crate::id::{BlockId, Oid};

/// The blocks and recipes of several shards together.
#[derive(Default)]
pub struct MergeShards {
    blocks: Vec<(Summary, Directory)>,
    known: HashMap<BlockId, usize>,
    recipes: Recipes,
    numbers: HashMap<BlockId, u32>,
    /// The recipes of each object, as places in `recipes`.
    of_object: HashMap<Oid, Vec<usize>>,
    /// An upper bound of the bytes of all recipes that were added.
    recipe_bytes: usize,
}

impl MergeShards {
    /// Adds all blocks and recipes of a shard, in their order. Fails with
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) in two cases: the shard contradicts an earlier one
    /// about a block, or the recipes would be too many for one shard. Then nothing was added.
    pub fn add(&mut self, shard: Shard, recipes: Recipes) -> Result<()> {
        let recipe_bytes = self.recipe_bytes + recipes.size_bytes();
        if recipe_bytes > limits::SHARD_READ_BYTES {
            return Err(Error::corrupt(format!("the recipes would take {recipe_bytes} bytes")));
        }
        for block in &shard.blocks {
            if self.known.get(&block.0.id).is_some_and(|number| self.blocks[*number] != *block) {
                return Err(Error::corrupt(format!("two shards disagree on block {}", block.0.id)));
            }
        }
        self.recipe_bytes = recipe_bytes;
        for block in shard.blocks {
            if !self.known.contains_key(&block.0.id) {
                self.known.insert(block.0.id, self.blocks.len());
                self.blocks.push(block);
            }
        }
        let named = &mut self.recipes.blocks;
        let mut number = |block: &BlockId| {
            *self.numbers.entry(*block).or_insert_with(|| {
                named.push(*block);
                named.len() as u32 - 1
            })
        };
        let numbers: Vec<u32> = recipes.blocks.iter().map(&mut number).collect();
        for mut recipe in recipes.recipes {
            // `Recipes::parse` has checked that the blocks exist
            recipe.terms.iter_mut().for_each(|term| term.block = numbers[term.block as usize]);
            self.add_recipe(recipe);
        }
        Ok(())
    }

    fn add_recipe(&mut self, recipe: ShardRecipe) {
        let all = &mut self.recipes.recipes;
        let same_object = self.of_object.entry(recipe.oid).or_default();
        if !same_object.iter().any(|number| all[*number] == recipe) {
            same_object.push(all.len());
            all.push(recipe);
        }
    }

    /// Returns the blocks with their directories, and the recipes, each once.
    pub fn finish(self) -> (Vec<(Summary, Directory)>, Recipes) {
        (self.blocks, self.recipes)
    }
}
