//! Every size and bound of the program, with its unit last in the name.

/// 1024 bytes.
pub const KIB: usize = 1024;
/// 1024 KiB.
pub const MIB: usize = 1024 * KIB;

/// Most bytes of content in one frame: small enough to decode for one chunk, large enough to
/// compress well.
pub const FRAME_CONTENT_BYTES: usize = 256 * KIB;
/// Most bytes of one stored frame: content that does not shrink, its block headers, magic, sizes
/// and checksum, and for planes one of each per plane.
pub const FRAME_STORED_BYTES: usize = FRAME_CONTENT_BYTES + KIB;
/// Most bytes of content that a delta frame is made from: so much has to be unpacked, or read, for 256 KiB.
pub const DELTA_BASE_BYTES: usize = MIB;
/// So many delta frames follow on each other at most, each made from the next.
pub const DELTA_DEPTH: u8 = 8;
/// So many frames have to be unpacked for one delta frame at most, those that others need for it included.
pub const DELTA_FRAMES: usize = 128;
/// So much of the stored bytes a delta frame has to save, unless it is set.
pub const DELTA_SAVES_PERCENT: u8 = 50;
/// So many objects are tried for the base of a run, the newest first.
pub const BASES_TRIED: usize = 8;
/// So many frames are tried, one after the other in vain, as patches to what stands at the same place in an object of nearly the same size.
pub const BASE_GUESSES: usize = 4;
/// How much further is looked for a base than where it should be: some chunks.
pub const DELTA_SLACK_BYTES: u64 = 32 * KIB as u64;
/// So much content of frames that others are made from is kept for the next one.
pub const DELTA_KEPT_BYTES: usize = 32 * MIB;
/// What each of them takes beside its content.
pub const DELTA_KEPT_COST_BYTES: usize = 256;
/// What lies in delta frames is unpacked in such pieces.
pub const DELTA_FETCH_CONTENT_BYTES: u64 = MIB as u64;
/// A delta frame that takes no more than this part of its content is kept without trying what else there is.
pub const DELTA_PLAIN_SHARE: usize = 50;
/// Most bytes of a stored block, directory and seek table included.
pub const BLOCK_BYTES: usize = 64 * MIB;
/// Most chunks in a block.
pub const BLOCK_CHUNKS: usize = 16_384;
/// Most bytes of content in one term.
pub const TERM_CONTENT_BYTES: usize = 8 * MIB;
/// Most chunks in a shard that this version writes: about 4 MiB.
pub const SHARD_CHUNKS: usize = 100_000;
/// Most bytes of the frames that a term lies in: content that does not shrink, what else its first and last
/// frame hold, and the frames' own bytes.
pub const TERM_FRAMES_BYTES: usize = 2 * TERM_CONTENT_BYTES;
/// A shard that claims to be larger is not read.
pub const SHARD_READ_BYTES: usize = 64 * MIB;
/// A condemned list that claims to be larger is not read.
pub const CONDEMNED_READ_BYTES: usize = 64 * MIB;
/// Nor are lists that are larger together: they name some three million blocks, and take up to three times as much memory.
pub const CONDEMNED_ALL_BYTES: u64 = 128 * MIB as u64;
/// So many segments that no other replaces stand in a store when a commit merges some of them: at most 32 are to stand, and others may
/// commit meanwhile.
pub const SEGMENTS_STANDING: usize = 24;
/// When so many stand, a commit merges some even if they are large.
pub const SEGMENTS_AT_MOST: usize = 30;
/// A commit merges no more bytes of segments than this, unless [`SEGMENTS_AT_MOST`] stand: it uploads and holds what it merges.
pub const MERGED_BYTES: u64 = 32 * MIB as u64;
/// And not fewer segments than this.
pub const FEWEST_MERGED: usize = 4;
/// A segment no larger than this is fetched whole: a few requests for parts of it would cost more.
pub const WHOLE_SEGMENT_BYTES: u64 = CARRIER_BYTES as u64;
/// A record in a segment takes no more than this, its keys included, and as much again for each of its terms and their blocks.
pub const RECORD_BYTES: usize = 320;
/// A segment that carries files is no larger than this, so that who knows it has them.
pub const CARRIER_BYTES: usize = 256 * KIB;
/// Of a larger one so much is fetched at first; all that is needed to read parts of it is mostly in there.
pub const HEAD_BYTES: u64 = 64 * KIB as u64;
/// No head is larger: it names what is replaced, up to [`LIST_NAMES`] segments of 48 bytes each, and the repositories.
pub const HEAD_AT_MOST_BYTES: usize = 64 * MIB;
/// No table of keys or shards is larger: they are a ninth and a quarter of a segment where each commit had one small object.
pub const TABLE_BYTES: usize = 128 * MIB;
/// A table is read in parts of so many pages: 4 MiB.
pub const TABLE_PART_PAGES: usize = 1024;
/// No look-up reads more of a segment at a time, whatever its entries claim.
pub const SPANS_BYTES: usize = 256 * MIB;
/// No look-up reads more records to find those of one object: they are sorted, and its place is known to within some 400.
pub const RECORDS_LOOKED_AT: usize = 128 * 1024;
/// Nor more terms of all its records: those of an object of 16 TB, or of 256 GB that changed everywhere.
pub const TERMS_LOOKED_AT: usize = 4 * MIB;
/// A copy of a large segment is fetched in parts of this size.
pub const SEGMENT_PART_BYTES: u64 = 16 * MIB as u64;
/// No merged segment is made of more bytes than this: about as much memory as that takes.
pub const COMPACTED_BYTES: u64 = 512 * MIB as u64;
/// A large segment is merged with small ones when it is at most so many times as large as these together.
pub const WORTH_MERGING: u64 = 4;
/// Shards are merged into such as have at most so many bytes; those of at least half are left as they are.
pub const SHARD_MERGED_BYTES: u32 = 4 * MIB as u32;
/// So many replaced segments make listing the index slow: one page of a LIST.
pub const SEGMENTS_REPLACED: usize = 1000;
/// How often a compaction begins again because another one has deleted what it was about to read.
pub const COMPACTIONS_TRIED: usize = 3;
/// A pull that misses an object reads so many segments that others replace, the newest ones.
pub const REPLACED_READ: usize = 256;
/// Of what a segment replaces, a check of the index reads so many segments,
pub const REPLACED_CHECKED: usize = 4;
/// of so many bytes at most,
pub const REPLACED_CHECKED_BYTES: u64 = MIB as u64;
/// and looks for so many records of each.
pub const RECORDS_CHECKED: usize = 4;
/// How often whoever watches a compaction hears how far a large file is.
pub const WATCH_MS: u64 = 1000;
/// Files that are deleted at a time.
pub const DELETES_IN_FLIGHT: usize = 32;
/// An index segment that claims to be larger is not read into memory at once.
pub const SEGMENT_READ_BYTES: usize = 1024 * MIB;
/// `store.json` is never larger.
pub const STORE_JSON_BYTES: usize = 64 * KIB;
/// Bytes of a page of an index segment, checksum included.
pub const PAGE_BYTES: usize = 4096;
/// Most posts in the fence of a table: with 10 million entries an entry is found in some 50 KB.
pub const FENCE_POSTS: usize = 1024;
/// So many entries of blocks before that of an object's first term are read with it.
pub const BLOCKS_BEFORE: usize = 32;
/// And so many from there on: they are often the same object's.
pub const BLOCKS_BEHIND: usize = 224;
/// Most sections in one file.
pub const SECTIONS: usize = 64;
/// While all shards of a store are no more bytes than this, unless it is set, a push reads them all.
pub const SHARD_CACHE_BYTES: u64 = 64 * MIB as u64;
/// While all shards of a store are no more bytes than this, `stats` reads them to count delta frames.
pub const STATS_SHARDS_BYTES: u64 = 256 * MIB as u64;
/// A key chunk leads to at most so many shards: those of the newest commits.
pub const SHARDS_OF_KEY: usize = 16;
/// While so much of shards is on its way, no key chunk leads to more.
pub const SHARDS_COMING_BYTES: u64 = 64 * MIB as u64;
/// So much content is looked through ahead of packing for key chunks, which stand some 16 MiB apart.
pub const SCOUTED_BYTES: u64 = 32 * MIB as u64;
/// Where a store has too many chunks to know them all, one is known at a time for so many bytes of the memory: some 50
/// bytes each.
pub const MEMORY_BYTES_PER_CHUNK: u64 = 256;
/// One chunk in this many is a key chunk, of an object of up to sixteen times as many.
pub const KEY_STRIDE: usize = 128;
/// A larger one has some sixteen key chunks,
pub const KEYS_OF_OBJECT: usize = 16;
/// or one in eight times the stride.
pub const KEY_STRIDES: usize = 8;
/// Objects that are smaller than the stride share one for so many chunks: they mostly come many at a time.
pub const KEY_SHARED_CHUNKS: usize = 256;
/// Most bytes of a repository's name.
pub const REPOSITORY_NAME_BYTES: usize = 128;

/// A protocol line that is longer is refused; git-lfs's own are below 10 KiB.
pub const PROTOCOL_LINE_BYTES: usize = MIB;
/// Progress is reported at most this often.
pub const PROGRESS_INTERVAL_MS: u64 = 100;

/// What blocks and buffers may take together, unless it is set.
pub const MEMORY_BYTES: u64 = 512 * MIB as u64;
/// One part in this many of the least limit of this machine is taken, if that is less: there are other processes, and memory
/// that nobody counts.
pub const MEMORY_SHARE: u64 = 4;
/// With less than this blocks would be so small that pulls take many requests.
pub const MEMORY_AT_LEAST_BYTES: u64 = 48 * MIB as u64;
/// Less than this in all, for a git-lfs command with its agents, is not enough for a push or a pull.
pub const MEMORY_OF_COMMAND_BYTES: u64 = 160 * MIB as u64;
/// Objects that git-lfs hands out in one go, and so the most that are worth being asked for at a time.
pub const TRANSFERS: u32 = 100;
/// Processes and threads that an agent takes at most: a shell, three threads of its own, one of the coordinator's, and one of
/// git-lfs's that waits for it to end.
pub const PROCESSES_OF_AGENT: u64 = 6;
/// Those of git, git-lfs and the coordinator.
pub const PROCESSES_BESIDE_AGENTS: u64 = 60;
/// Files that git-lfs has open for an agent.
pub const FILES_OF_AGENT: u64 = 4;
/// Those that it has open beside them.
pub const FILES_BESIDE_AGENTS: u64 = 56;
/// Memory that an agent and its shell take, which they share with no other process.
pub const MEMORY_OF_AGENT_BYTES: u64 = 3 * MIB as u64;
/// And the rest: git, git-lfs, and the coordinator with the least memory that does.
pub const MEMORY_BESIDE_AGENTS_BYTES: u64 = 256 * MIB as u64;
/// Address space that git-lfs takes for each agent: the stack of a thread that waits for it to end.
pub const ADDRESSES_OF_AGENT: u64 = 9 * MIB as u64;
/// And beside them.
pub const ADDRESSES_BESIDE_AGENTS: u64 = 880 * MIB as u64;
/// As many agents as git-lfs starts unless it is told otherwise.
pub const TRANSFERS_UNSET: u32 = 8;

/// The path of a socket is never longer: Linux has room for 107 bytes, others for 103.
pub const SOCKET_PATH_BYTES: usize = 103;
/// How long an agent looks for the one that works for all of its command before it works for itself.
pub const MEETING_MS: u64 = 3000;
/// How often an agent looks for another one that works for all, when it was lost, for one object.
pub const ELECTIONS: usize = 10;

/// A coordinator works for so many agents at a time that each may have this many files open.
pub const FILES_OF_OBJECT: u64 = 4;
/// Requests of a folder, or for the address of a host, that are under way at a time: each has a thread.
pub const BLOCKING_REQUESTS: usize = 32;

/// Files and connections that an agent may have open, if the system lets it: some refuse more, whatever they say.
pub const OPEN_FILES: u64 = 10_240;
/// How long a coordinator that has no more objects waits for those of the others.
pub const LAST_OBJECTS_MS: u64 = 10_000;
/// How long one that ends waits for the others to end.
pub const PARTING_MS: u64 = 400;

/// Bytes read from an object at a time.
pub const READ_BYTES: usize = MIB;
/// In a directory small ranges cost little.
pub const DIRECTORY_FETCH_GAP_BYTES: u32 = 128 * KIB as u32;
/// See [`DIRECTORY_FETCH_GAP_BYTES`].
pub const DIRECTORY_FETCH_BYTES: u32 = 2 * MIB as u32;
/// On a network a request costs some 20 to 50 ms: at 200 to 400 Mbit/s that is this much.
pub const NETWORK_FETCH_GAP_BYTES: u32 = MIB as u32;
/// So a whole block takes four requests.
pub const NETWORK_FETCH_BYTES: u32 = 17 * MIB as u32;
/// Blocks that may be on their way to a directory while the next is filled.
pub const DIRECTORY_BLOCKS_IN_FLIGHT: usize = 2;
/// Blocks that may be on their way to a service while the next is filled, and one more once that is full: several
/// streams fill a long link.
pub const NETWORK_BLOCKS_IN_FLIGHT: usize = 3;
/// A fetch is closed once it serves this much content, however little of the block it spans.
pub const FETCH_CONTENT_BYTES: u64 = 32 * MIB as u64;
/// The first block that is on its way to a service is so small, as until then the link is idle; each further one of a
/// group is twice as large, until they are full.
pub const NETWORK_FIRST_BLOCK_BYTES: usize = 2 * MIB;
/// What is known is reused by an object if reading it takes no more requests than this,
pub const REQUESTS_OF_OBJECT: u64 = 8;
/// and one for so many bytes of it: six such requests at a time, at 40 ms each, still move some 300 Mbit/s.
pub const BYTES_OF_REQUEST: u64 = 256 * KIB as u64;
/// So many places of a chunk are looked at for one that is cheap to read.
pub const PLACES_OF_CHUNK: usize = 4;
/// Fetches from a directory under way at a time, for one object.
pub const DIRECTORY_FETCHES_IN_FLIGHT: usize = 8;
/// Fetches from a service under way at a time, for one object; each may hold [`NETWORK_FETCH_BYTES`].
pub const NETWORK_FETCHES_IN_FLIGHT: usize = 6;
/// A fetch for a small object is widened to at most this much of a block: some ten times what its request costs.
pub const NETWORK_READ_AHEAD_BYTES: u32 = 4 * MIB as u32;
/// So much may be read ahead in vain at first. Each saved request adds [`NETWORK_FETCH_GAP_BYTES`], what it would cost.
pub const READ_AHEAD_CREDIT_BYTES: u64 = 16 * MIB as u64;
/// With so much left it is plain that small objects are wanted together: the first of a block is reason enough.
pub const READ_AHEAD_PLENTY_BYTES: u64 = 32 * MIB as u64;
/// No more is ever left, so no more is read in vain, whatever was saved before.
pub const READ_AHEAD_CREDIT_AT_MOST_BYTES: u64 = 48 * MIB as u64;
/// A part of a block that is kept counts as at least this much, so that there are never many.
pub const WINDOW_COST_BYTES: u64 = 64 * KIB as u64;
/// One part in this many of the memory is left to decoders, connections and the allocator.
pub const MEMORY_RESERVE_SHARE: u64 = 8;
/// One part in this many of the rest may hold parts of blocks that nobody waits for.
pub const WINDOWS_SHARE: u64 = 4;
/// Files of the index and shards that are read at a time.
pub const COPIES_IN_FLIGHT: usize = 16;
/// And so many bytes of them, or one file.
pub const COPIES_IN_FLIGHT_BYTES: u64 = 64 * MIB as u64;

/// A download looks for what it shares with other objects on this machine when so much is to be fetched, by it and
/// those before it.
pub const REUSE_AFTER_BYTES: u64 = MIB as u64;
/// Smaller objects are not looked at for that.
pub const REUSE_OBJECT_BYTES: u64 = 64 * KIB as u64;
/// Nor are more objects than this, the newest ones: each is looked up in the index once for each command.
pub const REUSE_OBJECTS: usize = 500;
/// Where parts of the index are not on this machine, one is looked up for so much that is to be fetched,
pub const REUSE_FAR_BYTES: u64 = 8 * MIB as u64;
/// and no more than these, one after the other.
pub const REUSE_FAR_OBJECTS: u64 = 8;
/// And no more of their terms: about 40 bytes of memory for each.
pub const REUSE_TERMS: usize = 500_000;
/// Of the folders that git-lfs keeps objects in, so many of those that were changed last are looked through.
pub const OBJECT_FOLDERS: usize = 4096;

/// A record older than this is not relied on: a fresh one is committed (design: 7 days).
pub const RECORD_FRESH_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Nor is a record that is dated further ahead than this: some clock is wrong.
pub const RECORD_AHEAD_MS: u64 = 24 * 60 * 60 * 1000;
/// Before an object of at least this size is packed, what others have committed meanwhile is looked at.
pub const LEARN_FILE_BYTES: u64 = MIB as u64;
/// It is looked at again when so many times the cost of the last look have passed.
pub const LEARN_INTERVAL: u32 = 10;
/// How long objects wait for others that are to be committed with them, beyond what a commit costs.
pub const GROUP_WAIT_MS: u64 = 200;
/// Nor do they when so many bytes of them are on their way: beside these, a commit costs little.
pub const GROUP_BYTES: usize = BLOCK_BYTES / 4 * 3;
/// No more are waited for when none has come for this part of what a commit costs.
pub const GROUP_QUIET_SHARE: u32 = 4;
/// But for so long they are, whatever a commit costs: git-lfs starts its agents some 3 ms apart.
pub const GROUP_QUIET_MS: u64 = 25;
/// When nothing of a push has moved for so long, the log says what is waited for.
pub const SILENCE_SECONDS: u64 = 5;
/// How often an upload starts again because what it relied on was condemned meanwhile.
pub const COMMIT_ATTEMPTS: usize = 5;
/// How often the index is listed again because a segment vanished while it was read.
pub const LIST_ATTEMPTS: usize = 10;
/// The pause before the third of these; each further one is twice as long, so all take half a minute.
pub const LIST_PAUSE_MS: u64 = 100;

/// How long a failed request to a service is tried again, unless it is set.
pub const RETRY_SECONDS: u64 = 120;
/// The same for a command that a person waits for: with what the last try takes, it ends within ten seconds.
pub const HURRIED_RETRY_SECONDS: u64 = 8;
/// And a service may be silent for so long there, twice.
pub const HURRIED_STALL_SECONDS: u64 = 5;
/// A request that takes long by itself is tried so often even if that takes longer.
pub const TRIES_AT_LEAST: u32 = 3;
/// The first pause between two tries.
pub const BACKOFF_MS: u64 = 200;
/// The longest pause between two tries, unless the service asks for more.
pub const BACKOFF_MAX_MS: u64 = 10_000;
/// A transfer that moves less than [`SLOWEST_BYTES_PER_SECOND`] over this time is given up.
pub const STALL_SECONDS: u64 = 30;
/// As slow as that a transfer may be, however long it takes.
pub const SLOWEST_BYTES_PER_SECOND: u64 = 512;
/// The answer to a request that is larger may take two times [`STALL_SECONDS`].
pub const SMALL_REQUEST_BYTES: u64 = 256 * KIB as u64;
/// A commit's only block and its shard stand in its index segment if they are no larger together: with 32 segments that makes
/// what is read of the index at most 3 MiB longer.
pub const CARRIED_BYTES: usize = 96 * KIB;
/// What a new connection sends before it waits for an answer: ten packets (RFC 6928).
pub const FIRST_PACKETS_BYTES: u64 = 14_600;
/// Bytes handed to a connection at a time.
pub const SEND_BYTES: usize = 64 * KIB;
/// How long a connection may take to be made.
pub const CONNECT_SECONDS: u64 = 10;
/// Requests at a time until a service was seen to bear more or less.
pub const REQUESTS_AT_FIRST: usize = 8;
/// Requests at a time at most, unless the user sets more.
pub const REQUESTS_AT_MOST: usize = 32;
/// Redirects that a web server may send us through.
pub const REDIRECTS: usize = 5;
/// What gives credentials answers with no more than that.
pub const CREDENTIALS_ANSWER_BYTES: usize = 1024 * KIB;
/// No service is believed that wants to be left alone for longer.
pub const RETRY_AFTER_SECONDS: u64 = 24 * 60 * 60;
/// Most bytes of an answer that is no file: a page of a listing has at most 5,000 names (Azure) of at most 1,024
/// characters, and some 1,500 bytes of other things for each.
pub const ANSWER_BYTES: u64 = 32 * MIB as u64;
/// Most names in one folder of the index: a hundred commits a day for five years, none of what they replaced deleted. A push
/// lists them all, twice: `compact` is due from [`SEGMENTS_REPLACED`] on. They take some 50 MB of memory.
pub const LIST_NAMES: usize = 200_000;
/// Most pages of the listing of one folder: a page has up to 1,000 names, and may have fewer.
pub const LIST_PAGES: usize = 1_000;
/// So many names of other programs are shown.
pub const FOREIGN_NAMES: usize = 3;
/// So much of a refusal is read.
pub const REFUSAL_BYTES: usize = 16 * KIB;
/// Services refuse signatures that are older than 15 minutes; a clock this far off may be why.
pub const CLOCK_SKEW_SECONDS: u64 = 5 * 60;
/// Bytes of a part, where a block is stored in parts.
pub const PART_BYTES: usize = 8 * MIB;
/// A block that broke off so often is stored in parts.
pub const BROKEN_PUTS: usize = 2;
/// A service that calls a free name taken so often is written to without conditions. Once or twice it may say so
/// because a lost request is still being carried out.
pub const FREE_NAMES_CALLED_TAKEN: usize = 3;
/// A manifest that claims to be larger is not read.
pub const MANIFEST_READ_BYTES: usize = 256 * MIB;
/// How often a manifest is written again because others have committed meanwhile.
pub const MANIFEST_ATTEMPTS: usize = 3;

/// A block whose directory and seek table are larger is not gone on with: they list its chunks and frames.
pub const DIRECTORY_READ_BYTES: u64 = MIB as u64;
/// Directories of so many bytes are read for a journal: of what a push of some 50 GB leaves that doesn't shrink.
pub const JOURNAL_BYTES: u64 = 128 * MIB as u64;
/// Entries of a journal are used for so long: then a collector may have been there.
pub const JOURNAL_SECONDS: u64 = 3 * 24 * 60 * 60;
/// So many clones are remembered, those that were used last.
pub const CLONES: usize = 16;
/// A clone that was not used for so long is forgotten.
pub const CLONE_SECONDS: u64 = 90 * 24 * 60 * 60;
/// A note of whose copies a folder holds is never larger.
pub const CACHE_STORE_BYTES: u64 = 64 * KIB as u64;
/// No path of a clone is longer.
pub const CLONE_PATH_BYTES: u64 = 4096;
/// The folders that one source may consist of: as many repositories of a Hugging Face cache.
pub const SOURCE_FOLDERS: usize = 1000;
/// Sources that don't answer in this time are done without: a file server may be gone.
pub const SOURCES_MS: u64 = 5000;
/// What the ranges of blocks that are kept on this machine may take, for all stores together, unless it is set.
pub const CACHE_BYTES: u64 = 4 * 1024 * MIB as u64;
/// File systems give out whole pages of this size.
pub const CACHE_PAGE_BYTES: u64 = 4096;
/// A range that is kept counts as at least this much, so that there are never many: some 65,000 in [`CACHE_BYTES`].
pub const CACHE_RANGE_COST_BYTES: u64 = 64 * KIB as u64;
/// When ranges have to go, one part in this many of the room becomes free, so that it isn't looked for again soon.
pub const CACHE_SLACK_SHARE: u64 = 16;
/// One part in this many of a disk stays free of what is kept.
pub const CACHE_RESERVE_SHARE: u64 = 20;
/// But no more than this.
pub const CACHE_RESERVE_AT_MOST_BYTES: u64 = 2 * 1024 * MIB as u64;
/// Where the disk is full, so much of it goes at a time for objects, or one part in [`CACHE_SLACK_SHARE`] if that is more.
pub const CACHE_GIVES_WAY_BYTES: u64 = 8 * MIB as u64;
/// A range is dated anew when it is used so long after it was last.
pub const CACHE_DATED_SECONDS: u64 = 60;
/// And the store that it comes from, after so long.
pub const CACHE_STORE_DATED_SECONDS: u64 = 60 * 60;
/// No longer is waited for others who make room there.
pub const CACHE_LOCK_MS: u64 = 1000;
/// What was not used for so long is removed by `cache prune`.
pub const CACHE_UNUSED_DAYS: u64 = 30;
/// A larger file is no hook that anybody has written.
pub const HOOK_BYTES: u64 = MIB as u64;
/// A program that is asked for its version answers within this time.
pub const VERSION_SECONDS: u64 = 5;
/// The agent's log is rotated beyond this size; one older file is kept.
pub const LOG_BYTES: u64 = MIB as u64;
/// An unfinished download that no running process holds is removed at this age: it is locked soon after
/// it is created.
pub const SCRATCH_PART_STALE_SECONDS: u64 = 10;
/// An object of at least this size whose download is interrupted is kept as far as it has come.
pub const PARTIAL_BYTES: u64 = 8 * MIB as u64;
/// And removed at this age.
pub const PARTIAL_STALE_SECONDS: u64 = 3 * 24 * 60 * 60;
/// After so long whoever was given a finished download holds it, or is dead.
pub const HAND_OVER_MS: u64 = 1000;
/// A finished download that git-lfs did not take is removed at this age.
pub const SCRATCH_STALE_SECONDS: u64 = 60 * 60;
/// Tries to lock the file that stands at a path, where others put another one there meanwhile.
pub const LOCK_TRIES: usize = 10;
/// Age from which a file in the making counts as abandoned where nothing can be locked.
pub const UNLOCKED_STALE_SECONDS: u64 = 24 * 60 * 60;

const _: () = assert!(BLOCK_CHUNKS <= u16::MAX as usize);
const _: () = assert!(BLOCK_BYTES <= u32::MAX as usize);
const _: () = assert!(TERM_CONTENT_BYTES <= u32::MAX as usize);
const _: () = assert!(PAGE_BYTES.is_power_of_two());
