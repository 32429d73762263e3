//! Condemned lists: the blocks and records that a collector is about to delete. A list is immutable and never
//! withdrawn.

use super::block::read_all;
use super::container::{self, Container, Features, Section};
use super::cursor::{Cursor, Put};
use super::segment::read_repositories;
use crate::error::{Error, Result};
use crate::id::{BlockId, CommitId, ContentHash, Nonce, Oid};

const MAGIC: &[u8; 8] = b"CDCcondm";
const SECTION_BLOCKS: u32 = 1;
const SECTION_RECORDS: u32 = 2;
const SECTION_REPOSITORIES: u32 = 3;
const BLOCK_WIDTH: usize = 40;
const RECORD_WIDTH: usize = 52;

/// A record that a collector is about to drop. The three fields tell it from the other records of its object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CondemnedRecord {
    /// The object.
    pub oid: Oid,
    /// The commit that wrote the record.
    pub commit: CommitId,
    /// The repository that pushed it.
    pub repository: String,
}

/// The blocks and records that one collection condemns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condemned {
    /// Blocks.
    pub blocks: Vec<BlockId>,
    /// Records.
    pub records: Vec<CondemnedRecord>,
}

impl Condemned {
    /// Writes the list.
    pub fn write(&self) -> Vec<u8> {
        let mut blocks = Vec::new();
        let mut records = Vec::new();
        let mut names = Vec::new();
        let mut repositories: Vec<&str> = self.records.iter().map(|r| r.repository.as_str()).collect();
        repositories.sort_unstable();
        repositories.dedup();
        for block in &self.blocks {
            blocks.extend_from_slice(&block.hash.0);
            blocks.extend_from_slice(&block.nonce.0);
        }
        for record in &self.records {
            records.extend_from_slice(&record.oid.0);
            records.extend_from_slice(&record.commit.0);
            let place = repositories.partition_point(|name| *name < record.repository.as_str());
            records.put_u32(place as u32);
        }
        for name in repositories {
            names.put_u16(name.len() as u16);
            names.extend_from_slice(name.as_bytes());
        }
        let section = |kind, bytes| Section { kind, bytes, paged: false };
        let sections = [
            section(SECTION_BLOCKS, blocks),
            section(SECTION_RECORDS, records),
            section(SECTION_REPOSITORIES, names),
        ];
        container::write(MAGIC, Features::default(), &sections)
    }

    /// Reads a list. A kind of condemnation that this version doesn't know is an error of
    /// [`crate::error::Kind::TooNew`]. After it, a push must not acknowledge anything.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let container = Container::parse(bytes, MAGIC, "a condemned list")?;
        if container.features.read_only != 0 || !container.only_has(1..4) {
            return Err(Error::too_new("a condemned list"));
        }
        let names = read_repositories(container.section(bytes, SECTION_REPOSITORIES)?)?;
        let blocks = read_all(
            container.section(bytes, SECTION_BLOCKS)?,
            BLOCK_WIDTH,
            "a list of condemned blocks",
            |c| Ok(BlockId { hash: ContentHash(c.array()?), nonce: Nonce(c.array()?) }),
        )?;
        let records = read_all(
            container.section(bytes, SECTION_RECORDS)?,
            RECORD_WIDTH,
            "a list of condemned records",
            |c| read_record(c, &names),
        )?;
        Ok(Self { blocks, records })
    }
}

fn read_record(cursor: &mut Cursor<'_>, names: &[String]) -> Result<CondemnedRecord> {
    let oid = Oid(cursor.array()?);
    let commit = CommitId(cursor.array()?);
    let repository = names
        .get(cursor.u32()? as usize)
        .ok_or_else(|| Error::corrupt("a condemned record names no repository"))?;
    Ok(CondemnedRecord { oid, commit, repository: repository.clone() })
}
