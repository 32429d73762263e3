//! Merging shards: several small ones become one that has all that they have, blocks and recipes.

use std::collections::HashMap;

use super::block::{Directory, Summary};
use super::shard::{Recipes, Shard, ShardRecipe};
use crate::error::{Error, Result};
use crate::id::{BlockId, Oid};
use crate::limit;

/// What several shards have together.
#[derive(Default)]
pub struct MergeShards {
    blocks: Vec<(Summary, Directory)>,
    known: HashMap<BlockId, usize>,
    recipes: Recipes,
    numbers: HashMap<BlockId, u32>,
    /// The recipes of each object, by their places in `recipes`.
    of_object: HashMap<Oid, Vec<usize>>,
    /// What all recipes that were added take, at most.
    recipe_bytes: usize,
}

impl MergeShards {
    /// Adds all that a shard has, in its order. Fails with [`Kind::Corrupt`](crate::error::Kind::Corrupt) if it says another thing of a
    /// block than one before, or if the recipes would become too many for one shard; then nothing of it was added.
    pub fn add(&mut self, shard: Shard, recipes: Recipes) -> Result<()> {
        let recipe_bytes = self.recipe_bytes + recipes.size_bytes();
        if recipe_bytes > limit::SHARD_READ_BYTES {
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
            // reading has checked that they are there
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

    /// The blocks with their directories, and the recipes, each once.
    pub fn finish(self) -> (Vec<(Summary, Directory)>, Recipes) {
        (self.blocks, self.recipes)
    }
}
