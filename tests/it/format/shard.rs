//! Shards: the chunks of whole blocks, and recipes to rebuild an index from.

use std::collections::BTreeSet;

use git_lfs_cdc::error::Kind as ErrorKind;
use git_lfs_cdc::format::block::{Directory, Summary};
use git_lfs_cdc::format::merge_shards::MergeShards;
use git_lfs_cdc::format::shard::{self, Recipes, Shard, ShardRecipe, ShardTerm};
use git_lfs_cdc::id::{Nonce, Oid};
use proptest::collection::vec;
use proptest::prelude::*;

use super::allocations::peak_of;
use super::forge::Forge;
use super::samples::{any_block_id, any_content, any_repository, sealed};

type Blocks = Vec<(Summary, Directory)>;

fn any_blocks() -> impl Strategy<Value = Blocks> {
    let block = (vec(any_content(1..=20_000), 1..4), 50usize..5000, any::<[u8; 8]>());
    let block = block.prop_map(|(contents, chunk_bytes, nonce)| {
        let sealed = sealed(&contents, chunk_bytes, Nonce(nonce)).0;
        (sealed.summary, sealed.directory)
    });
    vec(block, 0..5)
}

fn any_term(blocks: u32) -> impl Strategy<Value = ShardTerm> {
    (0..blocks, any::<u16>(), 1u16.., any::<u32>(), any::<u64>()).prop_map(
        |(block, first_chunk, chunk_count, content_bytes, checksum)| ShardTerm {
            block,
            first_chunk,
            chunk_count,
            content_bytes,
            checksum,
        },
    )
}

fn any_recipes() -> impl Strategy<Value = Recipes> {
    vec(any_block_id(), 1..20).prop_flat_map(|blocks| {
        let terms = vec(any_term(blocks.len() as u32), 0..40);
        let recipe = (any::<[u8; 32]>(), any::<u64>(), any_repository(), terms);
        let recipe = recipe.prop_map(|(oid, size_bytes, repository, terms)| ShardRecipe {
            oid: Oid(oid),
            size_bytes,
            repository,
            terms,
        });
        vec(recipe, 0..30).prop_map(move |recipes| Recipes { blocks: blocks.clone(), recipes })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn everything_comes_back(blocks in any_blocks(), recipes in any_recipes()) {
        let (bytes, recipe_bytes) = shard::write(&blocks, &recipes)?;
        prop_assert_eq!(Shard::parse(&bytes)?, Shard { blocks });
        prop_assert_eq!(Recipes::parse(&bytes)?, recipes);
        let forge = Forge::open(&bytes);
        prop_assert_eq!(forge.sections.last().map(|s| s.2.len()), Some(recipe_bytes));
        prop_assert_eq!(forge.close(), bytes);
    }

    #[test]
    fn a_merged_shard_has_all_entries_of_the_small_ones(
        all in vec((any_blocks(), any_recipes()), 1..4),
        again in any::<bool>(),
    ) {
        let mut all = all;
        if again {
            all.push(all[0].clone());
        }
        let mut merge = MergeShards::default();
        for (blocks, recipes) in &all {
            let bytes = shard::write(blocks, recipes)?.0;
            prop_assert!(shard::can_merge(&bytes)?);
            merge.add(Shard::parse(&bytes)?, Recipes::parse(&bytes)?)?;
        }
        let (blocks, recipes) = merge.finish();
        let names = |blocks: &Blocks| blocks.iter().map(|(summary, _)| summary.id).collect::<Vec<_>>();
        let distinct: BTreeSet<_> = all.iter().flat_map(|(blocks, _)| names(blocks)).collect();
        prop_assert_eq!(blocks.len(), distinct.len());
        prop_assert!(all.iter().flat_map(|(blocks, _)| blocks).all(|block| blocks.contains(block)));
        let merged = named(&recipes);
        prop_assert!(merged.len() == recipes.recipes.len(), "each recipe stands once");
        prop_assert!(merged == all.iter().flat_map(|(_, recipes)| named(recipes)).collect());
        let bytes = shard::write(&blocks, &recipes)?.0;
        prop_assert_eq!(Shard::parse(&bytes)?, Shard { blocks });
        prop_assert_eq!(Recipes::parse(&bytes)?, recipes);
    }
}

/// Recipes with the names of their blocks in place of numbers.
fn named(recipes: &Recipes) -> BTreeSet<String> {
    let named = |recipe: &ShardRecipe| {
        let block = |t: &ShardTerm| (recipes.blocks[t.block as usize], ShardTerm { block: 0, ..*t });
        let terms: Vec<_> = recipe.terms.iter().map(block).collect();
        format!("{} {} {} {terms:?}", recipe.oid, recipe.size_bytes, recipe.repository)
    };
    recipes.recipes.iter().map(named).collect()
}

#[test]
fn shards_that_disagree_are_not_merged() {
    let sealed = sealed(&[vec![1; 5000]], 1000, Nonce([9; 8])).0;
    let shard = |summary| Shard { blocks: vec![(summary, sealed.directory.clone())] };
    let mut merge = MergeShards::default();
    merge.add(shard(sealed.summary), Recipes::default()).unwrap();
    let other = Summary { size_bytes: sealed.summary.size_bytes + 1, ..sealed.summary };
    assert_eq!(merge.add(shard(other), Recipes::default()).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(merge.finish().0, shard(sealed.summary).blocks);
    let newer = [Forge::open(&sample()).with_section(77), Forge::open(&sample()).with_feature(1, 0)];
    assert!(newer.iter().all(|bytes| !shard::can_merge(bytes).unwrap()));
}

fn sample() -> Vec<u8> {
    let sealed = sealed(&[vec![1; 5000], vec![2; 5000]], 1000, Nonce([9; 8])).0;
    shard::write(&[(sealed.summary, sealed.directory)], &Recipes::default()).expect("it can be written").0
}

fn errors(bytes: &[u8]) -> [ErrorKind; 2] {
    let chunks = Shard::parse(bytes).expect_err("it must be refused");
    [chunks.kind(), Recipes::parse(bytes).expect_err("it must be refused").kind()]
}

#[test]
fn an_empty_shard_is_valid() {
    let (bytes, _) = shard::write(&[], &Recipes::default()).unwrap();
    assert_eq!(Shard::parse(&bytes).unwrap(), Shard::default());
    assert_eq!(Recipes::parse(&bytes).unwrap(), Recipes::default());
}

#[test]
fn newer_formats_are_recognised() {
    let bytes = sample();
    let forge = || Forge::open(&bytes);
    assert_eq!(errors(&forge().newer()), [ErrorKind::TooNew; 2]);
    assert_eq!(errors(&forge().with_feature(2, 31)), [ErrorKind::TooNew; 2]);
    for readable in [forge().with_feature(0, 0), forge().with_feature(1, 0), forge().with_section(77)] {
        assert_eq!(Shard::parse(&readable).unwrap(), Shard::parse(&bytes).unwrap());
        assert_eq!(Recipes::parse(&readable).unwrap(), Recipes::default());
    }
}

#[test]
fn lists_that_disagree_are_corrupt() {
    let bytes = sample();
    let changed = |change: &dyn Fn(&mut Forge)| {
        let mut forge = Forge::open(&bytes);
        change(&mut forge);
        Shard::parse(&forge.close()).expect_err("it must be refused").kind()
    };
    let shorter = |section: usize, by: usize| {
        changed(&move |f: &mut Forge| {
            let kept = f.sections[section].2.len() - by;
            f.sections[section].2.truncate(kept);
        })
    };
    for (section, by) in [(0, 1), (0, 60), (1, 1), (1, 12), (2, 1), (2, 36)] {
        assert_eq!(shorter(section, by), ErrorKind::Corrupt, "section {section} shorter by {by}");
    }
    for (section, width) in [(0, 1), (1, 12), (2, 36)] {
        let longer = changed(&move |f: &mut Forge| f.sections[section].2.extend_from_slice(&vec![0; width]));
        assert_eq!(longer, ErrorKind::Corrupt, "section {section} longer by {width}");
    }
    let counted = |at: usize, value: u32| {
        changed(&move |f: &mut Forge| f.sections[0].2[at..at + 4].copy_from_slice(&value.to_le_bytes()))
    };
    // a block's frame bytes, number of chunks, number of frames
    for (at, value) in [(44, 1), (52, 9), (52, 11), (52, u32::MAX), (56, 1), (56, 3), (56, u32::MAX)] {
        assert_eq!(counted(at, value), ErrorKind::Corrupt, "{value} at {at}");
    }
    assert_eq!(changed(&|f| drop(f.sections.remove(1))), ErrorKind::Corrupt);
}

#[test]
fn recipes_that_unpack_to_too_much_are_refused() {
    let mut forge = Forge::open(&sample());
    forge.sections[3].2 = zstd::bulk::compress(&vec![0; (64 << 20) + 1], 1).unwrap();
    let bytes = forge.close();
    let peak = peak_of(|| assert_eq!(Recipes::parse(&bytes).unwrap_err().kind(), ErrorKind::Corrupt));
    assert!(peak < 10_000, "{peak} bytes for recipes that are refused");
}
