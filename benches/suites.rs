//! Chunking suites measured on corpora: `cargo bench --bench suites -- DIR…`, where every DIR holds the
//! versions v1, v2, … of some files. Prints the bytes that each suite would store, written by the crate's own
//! writers with one commit per version, and its speed.

mod corpus;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use corpus::{files_under, versions_of};
use fastcdc::v2020::{FastCDC, Normalization};
use git_lfs_cdc::error::Result;
use git_lfs_cdc::format::block::{Builder, Chunk, Directory, Summary};
use git_lfs_cdc::format::chunking::{Suite, chunk_id};
use git_lfs_cdc::format::frame::Encoder;
use git_lfs_cdc::format::limits;
use git_lfs_cdc::format::recipe::{Record, Term, term_checksum};
use git_lfs_cdc::format::segment::{BlockEntry, Contents, Key, ShardEntry};
use git_lfs_cdc::format::shard::{self, Recipes, ShardRecipe, ShardTerm};
use git_lfs_cdc::id::{ChunkId, CommitId, ContentHash, Nonce, Oid, ShardId};
use git_lfs_cdc::units::KIB;

const LEVEL: i32 = 3;
const REPOSITORY: &str = "corpus-0a1b2c";

/// A way to cut files.
#[derive(Clone, Copy)]
enum Cutter {
    /// The crate's own.
    Gear(Suite),
    /// The crate `fastcdc`, 2020 variant, 4 KiB to 16 KiB to 64 KiB.
    FastCdc(Normalization),
}

impl Cutter {
    fn gear(min: usize, target: usize, max: usize, normalisation: u32) -> Self {
        Self::Gear(Suite {
            name: "measured",
            min_bytes: min * KIB,
            target_bytes: target * KIB,
            max_bytes: max * KIB,
            normalisation,
        })
    }

    fn name(&self) -> String {
        match self {
            Self::Gear(s) => {
                let [min, target, max] = [s.min_bytes, s.target_bytes, s.max_bytes].map(|b| b / KIB);
                format!("gear {target}K {min}–{max} n{}", s.normalisation)
            }
            Self::FastCdc(level) => format!("fastcdc 16K 4–64 {level:?}"),
        }
    }

    /// Calls `each` with every chunk of `data`.
    fn cut<'a>(&self, data: &'a [u8], mut each: impl FnMut(&'a [u8])) {
        match self {
            Self::Gear(suite) => {
                let mut rest = data;
                while let Some(length) = suite.next_cut(rest, true) {
                    let (chunk, behind) = rest.split_at(length);
                    each(chunk);
                    rest = behind;
                }
            }
            Self::FastCdc(level) => {
                let chunks = FastCDC::with_level(data, 4 * KIB, 16 * KIB, 64 * KIB, *level);
                chunks.for_each(|c| each(&data[c.offset..c.offset + c.length]));
            }
        }
    }
}

/// The place of a novel chunk.
#[derive(Clone, Copy, Default)]
struct Place {
    block: u32,
    chunk: u16,
}

/// A closed block: its name and sizes, its directory, and where each chunk's frame stands.
struct Block {
    summary: Summary,
    directory: Directory,
    frames: Vec<FrameOf>,
}

/// The frame that a chunk lies in.
#[derive(Clone, Copy)]
struct FrameOf {
    offset: u32,
    bytes: u32,
    skip_bytes: u32,
}

/// A store that only counts the bytes that it would hold.
#[derive(Default)]
struct Store {
    known: HashMap<ChunkId, usize>,
    places: Vec<Place>,
    blocks: Vec<Block>,
    chunks: u64,
    block_bytes: u64,
    shard_bytes: u64,
    segment_bytes: u64,
}

/// One version on its way into the store.
struct Commit<'s> {
    store: &'s mut Store,
    encoder: Encoder,
    builder: Builder,
    pending: Vec<Chunk>,
    content: Vec<u8>,
    first_block: usize,
    keys: Vec<ChunkId>,
}

impl<'s> Commit<'s> {
    fn begin(store: &'s mut Store) -> Result<Self> {
        let first_block = store.blocks.len();
        Ok(Self {
            store,
            encoder: Encoder::new(LEVEL)?,
            builder: Builder::default(),
            pending: Vec::new(),
            content: Vec::new(),
            first_block,
            keys: Vec::new(),
        })
    }

    /// The number of this chunk, which is stored if it is novel.
    fn add(&mut self, bytes: &[u8]) -> Result<usize> {
        let id = chunk_id(bytes);
        self.store.chunks += 1;
        if let Some(number) = self.store.known.get(&id) {
            return Ok(*number);
        }
        let number = self.store.known.len();
        self.store.known.insert(id, number);
        if self.content.len() + bytes.len() > limits::FRAME_CONTENT_BYTES {
            self.flush()?;
        }
        self.content.extend_from_slice(bytes);
        self.pending.push(Chunk { id, bytes: bytes.len() as u32 });
        if number.is_multiple_of(limits::KEY_STRIDE) {
            self.keys.push(id);
        }
        Ok(number)
    }

    fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let frame = self.encoder.encode(&self.content)?;
        if !self.builder.fits(&frame, self.pending.len()) {
            self.close();
        }
        let place = self.builder.push(frame, &self.pending)?;
        let block = self.store.blocks.len() as u32;
        for i in 0..self.pending.len() as u16 {
            self.store.places.push(Place { block, chunk: place.first_chunk + i });
        }
        self.pending.clear();
        self.content.clear();
        Ok(())
    }

    fn close(&mut self) {
        if self.builder.is_empty() {
            return;
        }
        let sealed = std::mem::take(&mut self.builder).finish(Nonce([7; 8]));
        self.store.block_bytes += u64::from(sealed.summary.size_bytes);
        let mut offset = 0;
        let mut chunks = sealed.directory.chunks.iter();
        let mut frames = Vec::new();
        for frame in &sealed.directory.frames {
            let mut skip_bytes = 0;
            for chunk in chunks.by_ref().take(usize::from(frame.chunk_count)) {
                frames.push(FrameOf { offset, bytes: frame.stored_bytes, skip_bytes });
                skip_bytes += chunk.bytes;
            }
            offset += frame.stored_bytes;
        }
        self.store.blocks.push(Block { summary: sealed.summary, directory: sealed.directory, frames });
    }

    /// Closes the open block, and writes shards and segment.
    fn finish(mut self, files: &[(Vec<u8>, Vec<usize>)]) -> Result<()> {
        self.flush()?;
        self.close();
        let commit = CommitId([3; 16]);
        let mut records = Vec::new();
        for (data, numbers) in files {
            let oid = Oid(*blake3::hash(data).as_bytes());
            let terms = self.terms(data, numbers);
            records.push(Record { oid, size_bytes: data.len() as u64, commit, repository: 0, terms });
        }
        let mut used: Vec<u32> = records.iter().flat_map(|r| r.terms.iter().map(|t| t.block)).collect();
        used.extend(self.first_block as u32..self.store.blocks.len() as u32);
        used.sort_unstable();
        used.dedup();
        for term in records.iter_mut().flat_map(|r| &mut r.terms) {
            term.block = used.partition_point(|b| *b < term.block) as u32;
        }
        let entries = used.iter().map(|b| self.store.blocks[*b as usize].summary);
        let blocks = entries.map(|summary| BlockEntry { summary, dependencies: vec![] }).collect::<Vec<_>>();
        let shards = self.shards(&blocks, &records)?;
        let keys = self.keys.iter().map(|id| Key::new(id, 0)).collect();
        let repositories = vec![REPOSITORY.to_owned()];
        let contents =
            Contents { records, blocks, shards, keys, repositories, replaces: vec![], carried: vec![] };
        self.store.segment_bytes += contents.write().len() as u64;
        Ok(())
    }

    /// The recipe of a file, its blocks numbered as in the store.
    fn terms(&self, data: &[u8], numbers: &[usize]) -> Vec<Term> {
        let mut terms: Vec<Term> = Vec::new();
        let mut start = 0;
        for number in numbers {
            let place = self.store.places[*number];
            let block = &self.store.blocks[place.block as usize];
            let chunk = usize::from(place.chunk);
            let frame = block.frames[chunk];
            let bytes = block.directory.chunks[chunk].bytes;
            let follows = |t: &&mut Term| {
                t.block == place.block
                    && t.first_chunk + t.chunk_count == place.chunk
                    && (t.content_bytes + bytes) as usize <= limits::TERM_CONTENT_BYTES
            };
            if let Some(term) = terms.last_mut().filter(follows) {
                term.chunk_count += 1;
                term.content_bytes += bytes;
                term.frames_bytes = frame.offset + frame.bytes - term.frames_offset;
                continue;
            }
            terms.push(Term {
                block: place.block,
                first_chunk: place.chunk,
                chunk_count: 1,
                frames_offset: frame.offset,
                frames_bytes: frame.bytes,
                skip_bytes: frame.skip_bytes,
                content_bytes: bytes,
                checksum: 0,
            });
        }
        for term in &mut terms {
            let end = start + term.content_bytes as usize;
            term.checksum = term_checksum(&data[start..end]);
            start = end;
        }
        terms
    }

    /// Writes the shards of this commit; the last has the recipes.
    fn shards(&mut self, used: &[BlockEntry], records: &[Record]) -> Result<Vec<ShardEntry>> {
        let term = |t: &Term| ShardTerm {
            block: t.block,
            first_chunk: t.first_chunk,
            chunk_count: t.chunk_count,
            content_bytes: t.content_bytes,
            checksum: t.checksum,
        };
        let recipe = |r: &Record| ShardRecipe {
            oid: r.oid,
            size_bytes: r.size_bytes,
            repository: REPOSITORY.to_owned(),
            terms: r.terms.iter().map(term).collect(),
        };
        let mut recipes = Recipes {
            blocks: used.iter().map(|b| b.summary.id).collect(),
            recipes: records.iter().map(recipe).collect(),
        };
        let novel = self.store.blocks[self.first_block..].iter();
        let mut rest: Vec<(Summary, Directory)> = novel.map(|b| (b.summary, b.directory.clone())).collect();
        let mut entries = Vec::new();
        loop {
            let mut chunks = 0;
            let fit = rest.iter().take_while(|(summary, _)| {
                chunks += summary.chunk_count as usize;
                chunks <= limits::SHARD_CHUNKS
            });
            let behind = rest.split_off(fit.count());
            let written = if behind.is_empty() { std::mem::take(&mut recipes) } else { Recipes::default() };
            let (bytes, recipe_bytes) = shard::write(&rest, &written)?;
            self.store.shard_bytes += bytes.len() as u64;
            entries.push(ShardEntry {
                id: ShardId { hash: ContentHash::of(&bytes), nonce: Nonce([7; 8]) },
                size_bytes: bytes.len() as u32,
                recipe_bytes: recipe_bytes as u32,
                chunk_count: rest.iter().map(|(summary, _)| summary.chunk_count).sum(),
            });
            if behind.is_empty() {
                return Ok(entries);
            }
            rest = behind;
        }
    }
}

/// Stores all versions, and counts.
fn measure(cutter: Cutter, versions: &[PathBuf]) -> Result<Store> {
    let mut store = Store::default();
    for version in versions {
        let mut commit = Commit::begin(&mut store)?;
        let mut files = Vec::new();
        for path in files_under(version) {
            let data = fs::read(&path).expect("a file of the corpus can be read");
            let mut numbers = Vec::new();
            let mut failed = None;
            cutter.cut(&data, |chunk| match commit.add(chunk) {
                Ok(number) => numbers.push(number),
                Err(error) => failed = Some(error),
            });
            failed.map_or(Ok(()), Err)?;
            files.push((data, numbers));
        }
        commit.finish(&files)?;
    }
    Ok(store)
}

/// The median speed of three runs over `files`, in MB/s.
fn speed(files: &[Vec<u8>], run: impl Fn(&[u8])) -> f64 {
    let bytes: usize = files.iter().map(Vec::len).sum();
    let mut speeds = [0.0; 3];
    for speed in &mut speeds {
        let start = Instant::now();
        files.iter().for_each(|file| run(file));
        *speed = bytes as f64 / 1e6 / start.elapsed().as_secs_f64();
    }
    speeds.sort_by(f64::total_cmp);
    speeds[1]
}

fn cutters() -> Vec<Cutter> {
    vec![
        Cutter::gear(8, 64, 128, 0),
        Cutter::gear(4, 32, 64, 0),
        Cutter::gear(4, 16, 64, 0),
        Cutter::gear(4, 16, 64, 1),
        Cutter::gear(4, 16, 64, 2),
        Cutter::gear(2, 8, 64, 2),
        Cutter::FastCdc(Normalization::Level1),
        Cutter::FastCdc(Normalization::Level2),
        Cutter::FastCdc(Normalization::Level3),
    ]
}

fn main() -> Result<()> {
    // cargo itself passes `--bench`
    let given = std::env::args_os().skip(1).filter(|a| a != &OsString::from("--bench"));
    let corpora: Vec<PathBuf> = given.map(PathBuf::from).collect();
    if corpora.is_empty() {
        println!("usage: cargo bench --bench suites -- DIR…   (each with folders v1, v2, …)");
        return Ok(());
    }
    println!(
        "| corpus | suite | chunks | novel | mean chunk KiB | stored MB | of it index and shards MB | cut MB/s | cut + id MB/s |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for corpus in &corpora {
        let versions = versions_of(corpus);
        let Some(first) = versions.first() else {
            println!("{} has no folder v1", corpus.display());
            continue;
        };
        let held: Vec<Vec<u8>> =
            files_under(first).iter().map(|f| fs::read(f).expect("a file can be read")).collect();
        let length_of = |file: PathBuf| fs::metadata(file).expect("a file of the corpus has a length").len();
        let total: u64 = versions.iter().flat_map(|version| files_under(version)).map(length_of).sum();
        for cutter in cutters() {
            let cut = speed(&held, |file| cutter.cut(file, |chunk| _ = black_box(chunk)));
            let ids = speed(&held, |file| cutter.cut(file, |chunk| _ = black_box(chunk_id(chunk))));
            let store = measure(cutter, &versions)?;
            let directories = store.shard_bytes + store.segment_bytes;
            println!(
                "| {} | {} | {} | {} | {:.1} | {:.2} | {:.2} | {cut:.0} | {ids:.0} |",
                corpus.file_name().unwrap_or_default().display(),
                cutter.name(),
                store.chunks,
                store.known.len(),
                total as f64 / store.chunks as f64 / KIB as f64,
                (store.block_bytes + directories) as f64 / 1e6,
                directories as f64 / 1e6,
            );
        }
    }
    Ok(())
}
