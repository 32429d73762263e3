//! Sizes and bounds of the program, each with its unit last in the name.

/// 1024 bytes.
pub const KIB: usize = 1024;
/// 1024 KiB.
pub const MIB: usize = 1024 * KIB;

/// Most bytes of content in one frame. It is small enough to decode for one chunk, and large enough to
/// compress well.
pub const FRAME_CONTENT_BYTES: usize = 256 * KIB;
/// Most bytes of one stored frame: content that does not shrink, block headers, magic, sizes and checksum. A
/// grouped frame has one of each per plane.
pub const FRAME_STORED_BYTES: usize = FRAME_CONTENT_BYTES + KIB;
/// Most bytes of content that a delta frame is made from. So many have to be unpacked, or read, for 256 KiB.
pub const DELTA_BASE_BYTES: usize = MIB;
/// Most delta frames that follow on each other, each made from the next.
pub const DELTA_DEPTH: u8 = 8;
/// Most frames that have to be unpacked for one delta frame, including the frames that its bases need.
pub const DELTA_FRAMES: usize = 128;
/// Percentage of the stored bytes that a delta frame has to save, unless the user sets another one.
pub const DELTA_SAVES_PERCENT: u8 = 50;
/// Most objects that are tried for the base of a run, the newest first.
pub const BASES_TRIED: usize = 8;
/// Most guessed bases that may fail in a row. A guess is content at the same place in an object of nearly the
/// same size.
pub const BASE_GUESSES: usize = 4;
/// Bytes around the expected place of a base in which a push also looks: some chunks.
pub const DELTA_SLACK_BYTES: u64 = 32 * KIB as u64;
/// Most bytes of unpacked base frames that are kept for the next delta frame.
pub const DELTA_KEPT_BYTES: usize = 32 * MIB;
/// Bytes that each of these frames takes beside its content.
pub const DELTA_KEPT_COST_BYTES: usize = 256;
/// Bytes of content in one piece of the delta frames that are unpacked together.
pub const DELTA_FETCH_CONTENT_BYTES: u64 = MIB as u64;
/// A delta frame that takes no more than one part in this many of its content is kept. No other encoding is
/// tried then.
pub const DELTA_PLAIN_SHARE: usize = 50;
/// Most bytes of a stored block, directory and seek table included.
pub const BLOCK_BYTES: usize = 64 * MIB;
/// Most chunks in a block.
pub const BLOCK_CHUNKS: usize = 16_384;
/// Most bytes of content in one term.
pub const TERM_CONTENT_BYTES: usize = 8 * MIB;
/// Most chunks in a shard that this version writes: about 4 MiB.
pub const SHARD_CHUNKS: usize = 100_000;
/// Most bytes of the frames that a term lies in. They hold content that does not shrink, other content in the
/// first and last frame, and the frames' own bytes.
pub const TERM_FRAMES_BYTES: usize = 2 * TERM_CONTENT_BYTES;
/// A shard that claims to be larger is not read.
pub const SHARD_READ_BYTES: usize = 64 * MIB;
/// A condemned list that claims to be larger is not read.
pub const CONDEMNED_READ_BYTES: usize = 64 * MIB;
/// Most bytes of all condemned lists together. So many name some three million blocks, and take up to three
/// times as much memory.
pub const CONDEMNED_ALL_BYTES: u64 = 128 * MIB as u64;
/// When so many segments stand, a commit merges some. At most 32 are to stand, and other pushes may commit
/// meanwhile.
pub const SEGMENTS_STANDING: usize = 24;
/// When so many segments stand, a commit merges some even if they are large.
pub const SEGMENTS_AT_MOST: usize = 30;
/// Most bytes of segments that a commit merges, unless [`SEGMENTS_AT_MOST`] stand. The pushing process
/// uploads the merged segment and holds it in memory.
pub const MERGED_BYTES: u64 = 32 * MIB as u64;
/// Fewest segments that a commit merges.
pub const FEWEST_MERGED: usize = 4;
/// A segment no larger than this is fetched whole, because several requests for parts would cost more.
pub const WHOLE_SEGMENT_BYTES: u64 = CARRIER_BYTES as u64;
/// Most bytes of a record in a segment, with its keys. Each of its terms, with its block, takes at most as
/// much again.
pub const RECORD_BYTES: usize = 320;
/// Most bytes of a segment that carries files. Such a segment is read whole, so its reader has the files too.
pub const CARRIER_BYTES: usize = 256 * KIB;
/// Bytes that are fetched first of a larger segment. They mostly hold all that is needed to read parts of the
/// segment.
pub const HEAD_BYTES: u64 = 64 * KIB as u64;
/// Most bytes of a segment's head. It names up to [`LIST_NAMES`] replaced segments of 48 bytes each, and the
/// repositories.
pub const HEAD_AT_MOST_BYTES: usize = 64 * MIB;
/// Most bytes of a table of keys or of shards. They are a ninth and a quarter of a segment in which each
/// commit had one small object.
pub const TABLE_BYTES: usize = 128 * MIB;
/// Pages of a table that are read at a time: 4 MiB.
pub const TABLE_PART_PAGES: usize = 1024;
/// Most bytes of a segment that a look-up reads at a time, even if entries claim more.
pub const SPANS_BYTES: usize = 256 * MIB;
/// Most records that a look-up reads to find those of one object. Records are sorted, and the place is known
/// to within some 400.
pub const RECORDS_LOOKED_AT: usize = 128 * 1024;
/// Most terms of all records that a look-up finds. An object of 16 TB has so many, or one of 256 GB that
/// changed everywhere.
pub const TERMS_LOOKED_AT: usize = 4 * MIB;
/// Bytes of each part in which a copy of a large segment is fetched.
pub const SEGMENT_PART_BYTES: u64 = 16 * MIB as u64;
/// Most bytes of segments that become one merged segment. Merging takes about as much memory.
pub const COMPACTED_BYTES: u64 = 512 * MIB as u64;
/// A large segment is merged with small ones if it is at most this many times as large as they are together.
pub const WORTH_MERGING: u64 = 4;
/// Most bytes of a merged shard. Shards of at least half as many are left alone.
pub const SHARD_MERGED_BYTES: u32 = 4 * MIB as u32;
/// Number of replaced segments from which listing the index is slow: one page of a LIST.
pub const SEGMENTS_REPLACED: usize = 1000;
/// Tries of a compaction. It begins again if another compaction has deleted a file that it was about to read.
pub const COMPACTIONS_TRIED: usize = 3;
/// Most replaced segments, the newest ones, that a pull reads when it misses an object.
pub const REPLACED_READ: usize = 256;
/// Replaced segments that a check of the index reads for each segment that replaces others.
pub const REPLACED_CHECKED: usize = 4;
/// Most bytes of a replaced segment that such a check reads.
pub const REPLACED_CHECKED_BYTES: u64 = MIB as u64;
/// Records of each replaced segment that such a check looks for.
pub const RECORDS_CHECKED: usize = 4;
/// Pause between two reports of a compaction that moves a large file.
pub const WATCH_MS: u64 = 1000;
/// Files that are deleted at a time.
pub const DELETES_IN_FLIGHT: usize = 32;
/// Most bytes of an index segment that is read into memory at once.
pub const SEGMENT_READ_BYTES: usize = 1024 * MIB;
/// Most bytes of `store.json`.
pub const STORE_JSON_BYTES: usize = 64 * KIB;
/// Bytes of a page of an index segment, checksum included.
pub const PAGE_BYTES: usize = 4096;
/// Most posts in the fence of a table. With 10 million entries, some 50 KB are read to find one.
pub const FENCE_POSTS: usize = 1024;
/// Entries of blocks before that of an object's first term that are read with it.
pub const BLOCKS_BEFORE: usize = 32;
/// Entries of blocks from that one on that are read with it. They often belong to the same object.
pub const BLOCKS_BEHIND: usize = 224;
/// Most sections in one file.
pub const SECTIONS: usize = 64;
/// Most bytes of all shards of a store for which a push reads every shard, unless the user sets another
/// bound.
pub const SHARD_CACHE_BYTES: u64 = 64 * MIB as u64;
/// Most bytes of all shards of a store for which `stats` reads them to count delta frames.
pub const STATS_SHARDS_BYTES: u64 = 256 * MIB as u64;
/// Most shards that a key chunk leads to: those of the newest commits.
pub const SHARDS_OF_KEY: usize = 16;
/// Bytes of shards under way from which key chunks lead to no more shards.
pub const SHARDS_COMING_BYTES: u64 = 64 * MIB as u64;
/// Bytes of content ahead of packing in which the scout looks for key chunks. These stand some 16 MiB apart.
pub const SCOUTED_BYTES: u64 = 32 * MIB as u64;
/// Bytes of the memory for each known chunk, in a store with too many chunks to know them all. A known chunk
/// takes some 50 bytes.
pub const MEMORY_BYTES_PER_CHUNK: u64 = 256;
/// One chunk in this many is a key chunk, in objects of up to sixteen times as many chunks.
pub const KEY_STRIDE: usize = 128;
/// Key chunks that a larger object has, about.
pub const KEYS_OF_OBJECT: usize = 16;
/// A very large object has one key chunk in this many times [`KEY_STRIDE`].
pub const KEY_STRIDES: usize = 8;
/// Objects smaller than [`KEY_STRIDE`] share one key chunk for so many chunks, because they mostly come many
/// at a time.
pub const KEY_SHARED_CHUNKS: usize = 256;
/// Most bytes of a repository's name.
pub const REPOSITORY_NAME_BYTES: usize = 128;

/// Most bytes of a line of the protocol; a longer line is refused. git-lfs's own are below 10 KiB.
pub const PROTOCOL_LINE_BYTES: usize = MIB;
/// Least time between two reports of progress.
pub const PROGRESS_INTERVAL_MS: u64 = 100;

/// Most bytes that blocks and buffers take together, unless the user sets another bound.
pub const MEMORY_BYTES: u64 = 512 * MIB as u64;
/// The least memory limit of this machine is divided by this, if the result is below [`MEMORY_BYTES`]. Other
/// processes need memory too, and some memory is counted nowhere.
pub const MEMORY_SHARE: u64 = 4;
/// Least bytes for blocks and buffers. With fewer, blocks would be so small that pulls take many requests.
pub const MEMORY_AT_LEAST_BYTES: u64 = 48 * MIB as u64;
/// Least memory for a git-lfs command with its agents. Less is not enough for a push or a pull.
pub const MEMORY_OF_COMMAND_BYTES: u64 = 160 * MIB as u64;
/// Objects that git-lfs hands out in one go. It is useless to ask for more at a time.
pub const TRANSFERS: u32 = 100;
/// Most processes and threads for an agent: a shell, three threads of its own, one of the coordinator, and
/// one of git-lfs. This last one waits for the end of the agent.
pub const PROCESSES_OF_AGENT: u64 = 6;
/// Processes and threads of git, git-lfs and the coordinator.
pub const PROCESSES_BESIDE_AGENTS: u64 = 60;
/// Files that git-lfs has open for an agent.
pub const FILES_OF_AGENT: u64 = 4;
/// Files that git-lfs has open beside those for agents.
pub const FILES_BESIDE_AGENTS: u64 = 56;
/// Memory of an agent and its shell that they share with no other process.
pub const MEMORY_OF_AGENT_BYTES: u64 = 3 * MIB as u64;
/// Memory beside that of the agents: git, git-lfs, and the coordinator with the least memory that it can work
/// with.
pub const MEMORY_BESIDE_AGENTS_BYTES: u64 = 256 * MIB as u64;
/// Address space that git-lfs takes for each agent: the stack of a thread that waits for the end of the
/// agent.
pub const ADDRESSES_OF_AGENT: u64 = 9 * MIB as u64;
/// Address space beside that for agents.
pub const ADDRESSES_BESIDE_AGENTS: u64 = 880 * MIB as u64;
/// Agents that git-lfs starts unless the user sets another number.
pub const TRANSFERS_UNSET: u32 = 8;

/// Most bytes of a socket's path. Linux has room for 107 bytes, other systems for 103.
pub const SOCKET_PATH_BYTES: usize = 103;
/// Time for which an agent looks for its coordinator before it works alone.
pub const MEETING_MS: u64 = 3000;
/// Most coordinators that an agent looks for and loses, for one object.
pub const ELECTIONS: usize = 10;

/// Files that each agent may have open. So they bound the agents for which a coordinator works at a time.
pub const FILES_OF_OBJECT: u64 = 4;
/// Most requests to a folder, or for the address of a host, that are under way at a time. Each has a thread.
pub const BLOCKING_REQUESTS: usize = 32;

/// Most files and connections that an agent opens, if the system allows it. Some systems refuse more, even if
/// they report a higher limit.
pub const OPEN_FILES: u64 = 10_240;
/// Time for which a coordinator without objects waits for those of the other agents.
pub const LAST_OBJECTS_MS: u64 = 10_000;
/// Time for which a coordinator that ends waits for the other agents to end.
pub const PARTING_MS: u64 = 400;

/// Bytes that are read from an object at a time.
pub const READ_BYTES: usize = MIB;
/// Widest gap between two ranges that one read of a directory spans. There, small ranges cost little.
pub const DIRECTORY_FETCH_GAP_BYTES: u32 = 128 * KIB as u32;
/// Most bytes of one read from a directory. See [`DIRECTORY_FETCH_GAP_BYTES`].
pub const DIRECTORY_FETCH_BYTES: u32 = 2 * MIB as u32;
/// Widest gap between two ranges that one request spans. A request costs some 20 to 50 ms: this much at 200
/// to 400 Mbit/s.
pub const NETWORK_FETCH_GAP_BYTES: u32 = MIB as u32;
/// Most bytes of one request for a part of a block. A whole block takes four requests.
pub const NETWORK_FETCH_BYTES: u32 = 17 * MIB as u32;
/// Blocks that may be on their way to a directory while the next one is filled.
pub const DIRECTORY_BLOCKS_IN_FLIGHT: usize = 2;
/// Blocks that may be on their way to a service while the next one is filled. When that one is full, it joins
/// them. Several streams fill a long link.
pub const NETWORK_BLOCKS_IN_FLIGHT: usize = 3;
/// Bytes of content from which a fetch is closed, even if it spans little of the block.
pub const FETCH_CONTENT_BYTES: u64 = 32 * MIB as u64;
/// Most bytes of the first block on its way to a service. It is small, because the link is idle until then.
/// Each further block of a batch is twice as large, until blocks are full.
pub const NETWORK_FIRST_BLOCK_BYTES: usize = 2 * MIB;
/// Requests that reading an object may take in any case, if known chunks are reused.
pub const REQUESTS_OF_OBJECT: u64 = 8;
/// Bytes of an object for each further request. Six such requests at a time, at 40 ms each, still move some
/// 300 Mbit/s.
pub const BYTES_OF_REQUEST: u64 = 256 * KIB as u64;
/// Most places of a chunk in which a push looks for one that is cheap to read.
pub const PLACES_OF_CHUNK: usize = 4;
/// Most fetches from a directory that are under way at a time, for one object.
pub const DIRECTORY_FETCHES_IN_FLIGHT: usize = 8;
/// Most fetches from a service that are under way at a time, for one object. Each may hold
/// [`NETWORK_FETCH_BYTES`].
pub const NETWORK_FETCHES_IN_FLIGHT: usize = 6;
/// Most bytes of a block to which a fetch for a small object is widened. They cost some ten times as much as
/// the request.
pub const NETWORK_READ_AHEAD_BYTES: u32 = 4 * MIB as u32;
/// Unused bytes that read-ahead may read at first. Each saved request adds [`NETWORK_FETCH_GAP_BYTES`], the
/// cost of a request.
pub const READ_AHEAD_CREDIT_BYTES: u64 = 16 * MIB as u64;
/// Credit from which the first small object of a block is reason enough to read ahead. It shows that small
/// objects are wanted together.
pub const READ_AHEAD_PLENTY_BYTES: u64 = 32 * MIB as u64;
/// Most credit that read-ahead ever has, however many requests it has saved.
pub const READ_AHEAD_CREDIT_AT_MOST_BYTES: u64 = 48 * MIB as u64;
/// Least bytes that a kept part of a block counts, so that there are never many.
pub const WINDOW_COST_BYTES: u64 = 64 * KIB as u64;
/// One part in this many of the memory is left to decoders, connections and the allocator.
pub const MEMORY_RESERVE_SHARE: u64 = 8;
/// One part in this many of the rest may hold parts of blocks that no download waits for.
pub const WINDOWS_SHARE: u64 = 4;
/// Most files of the index, and shards, that are read at a time.
pub const COPIES_IN_FLIGHT: usize = 16;
/// Most bytes of these files that are read at a time. A larger file is read alone.
pub const COPIES_IN_FLIGHT_BYTES: u64 = 64 * MIB as u64;

/// Bytes that a command has to fetch before a download looks for other objects on this machine that share
/// content with it.
pub const REUSE_AFTER_BYTES: u64 = MIB as u64;
/// Least size of the objects in which a download looks for shared content.
pub const REUSE_OBJECT_BYTES: u64 = 64 * KIB as u64;
/// Most objects in which a command looks for shared content, the newest ones. It looks up each in the index
/// once.
pub const REUSE_OBJECTS: usize = 500;
/// Bytes to fetch for each object that is looked up, where parts of the index are not on this machine.
pub const REUSE_FAR_BYTES: u64 = 8 * MIB as u64;
/// Most objects that are looked up there, one after the other.
pub const REUSE_FAR_OBJECTS: u64 = 8;
/// Most terms of all these objects. Each takes about 40 bytes of memory.
pub const REUSE_TERMS: usize = 500_000;
/// Most folders of git-lfs's objects that are looked through, the last changed ones.
pub const OBJECT_FOLDERS: usize = 4096;

/// Age up to which a push relies on a record: 7 days. For an older one it commits a fresh record.
pub const RECORD_FRESH_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Time that a record may be dated ahead. A push does not rely on one further ahead, because some clock is
/// wrong.
pub const RECORD_AHEAD_MS: u64 = 24 * 60 * 60 * 1000;
/// Least size of an object before which a push looks at the commits that others have made meanwhile.
pub const LEARN_FILE_BYTES: u64 = MIB as u64;
/// A push looks again after this many times the cost of its last look.
pub const LEARN_INTERVAL: u32 = 10;
/// Time for which objects wait for others to share a commit, beyond the cost of a commit.
pub const GROUP_WAIT_MS: u64 = 200;
/// Bytes of a batch on their way from which objects don't wait. Beside so many, a commit costs little.
pub const GROUP_BYTES: usize = BLOCK_BYTES / 4 * 3;
/// A batch closes when no new object came for the cost of a commit, divided by this.
pub const GROUP_QUIET_SHARE: u32 = 4;
/// Least time without a new object before a batch closes. git-lfs starts its agents some 3 ms apart.
pub const GROUP_QUIET_MS: u64 = 25;
/// Time without any movement of a push after which the log says on which step it waits.
pub const SILENCE_SECONDS: u64 = 5;
/// Tries of an upload. It starts again if files that it relied on were condemned meanwhile.
pub const COMMIT_ATTEMPTS: usize = 5;
/// Lists of the index at most. It is listed again if a segment vanished while it was read.
pub const LIST_ATTEMPTS: usize = 10;
/// Pause before the third list. Each further pause is twice as long, so all take half a minute.
pub const LIST_PAUSE_MS: u64 = 100;

/// Time for which a failed request to a service is tried again, unless the user sets another one.
pub const RETRY_SECONDS: u64 = 120;
/// The same time for a command that a user waits for. With the time of the last try, it ends within ten
/// seconds.
pub const HURRIED_RETRY_SECONDS: u64 = 8;
/// Time for which a service may be silent in such a command, twice.
pub const HURRIED_STALL_SECONDS: u64 = 5;
/// Least tries of a request that takes long by itself, even if they take longer than the time for it.
pub const TRIES_AT_LEAST: u32 = 3;
/// The first pause between two tries.
pub const BACKOFF_MS: u64 = 200;
/// The longest pause between two tries, unless the service asks for more.
pub const BACKOFF_MAX_MS: u64 = 10_000;
/// Time over which a transfer must not be slower than [`SLOWEST_BYTES_PER_SECOND`]; otherwise it is given up.
pub const STALL_SECONDS: u64 = 30;
/// Least speed of a transfer; a transfer as slow as this may take as long as it needs.
pub const SLOWEST_BYTES_PER_SECOND: u64 = 512;
/// Most bytes of a request whose answer must come in [`STALL_SECONDS`]. The answer to a larger one may take
/// twice as long.
pub const SMALL_REQUEST_BYTES: u64 = 256 * KIB as u64;
/// Most bytes of a commit's only block and its shard together, if its index segment carries them. With 32
/// segments, at most 3 MiB more of the index are read.
pub const CARRIED_BYTES: usize = 96 * KIB;
/// Bytes that a new connection sends before it waits for an answer: ten packets (RFC 6928).
pub const FIRST_PACKETS_BYTES: u64 = 14_600;
/// Bytes that are handed to a connection at a time.
pub const SEND_BYTES: usize = 64 * KIB;
/// Time for making a connection.
pub const CONNECT_SECONDS: u64 = 10;
/// Requests at a time at first, until a service was seen to bear more or fewer.
pub const REQUESTS_AT_FIRST: usize = 8;
/// Requests at a time at most, unless the user sets more.
pub const REQUESTS_AT_MOST: usize = 32;
/// Most redirects of a web server that are followed.
pub const REDIRECTS: usize = 5;
/// Most bytes of an answer with credentials.
pub const CREDENTIALS_ANSWER_BYTES: usize = 1024 * KIB;
/// Longest pause that a service can ask for. A longer one is shortened to this.
pub const RETRY_AFTER_SECONDS: u64 = 24 * 60 * 60;
/// Most bytes of an answer that is no file. A page of a listing has at most 5,000 names (Azure). A name has
/// at most 1,024 characters, and some 1,500 bytes of other data.
pub const ANSWER_BYTES: u64 = 32 * MIB as u64;
/// Most names in one folder of the index: a hundred commits a day for five years, with no replaced segment
/// deleted. A push lists them all, twice. They take some 50 MB of memory. `compact` is due from
/// [`SEGMENTS_REPLACED`] on.
pub const LIST_NAMES: usize = 200_000;
/// Most pages of the listing of one folder. A page has up to 1,000 names, and may have fewer.
pub const LIST_PAGES: usize = 1_000;
/// Most names of other programs' files that are shown.
pub const FOREIGN_NAMES: usize = 3;
/// Most bytes of a refusal that are read.
pub const REFUSAL_BYTES: usize = 16 * KIB;
/// Difference of clocks that may explain a refusal. Services refuse signatures that are older than 15
/// minutes.
pub const CLOCK_SKEW_SECONDS: u64 = 5 * 60;
/// Bytes of a part of a block that is stored in parts.
pub const PART_BYTES: usize = 8 * MIB;
/// Broken PUTs of a block after which it is stored in parts.
pub const BROKEN_PUTS: usize = 2;
/// Free names that a service may call taken before it is written to without conditions. Once or twice it may
/// say so because it still carries out a lost request.
pub const FREE_NAMES_CALLED_TAKEN: usize = 3;
/// Most bytes of a manifest; one that claims to be larger is not read.
pub const MANIFEST_READ_BYTES: usize = 256 * MIB;
/// Times that a process writes the manifest at most. It writes it again because others have committed
/// meanwhile.
pub const MANIFEST_ATTEMPTS: usize = 3;

/// Most bytes of the directory and seek table of a block in a journal. A push uses no block with more.
pub const DIRECTORY_READ_BYTES: u64 = MIB as u64;
/// Most bytes of block directories that are read for a journal. A push of some 50 GB that doesn't shrink
/// leaves so many.
pub const JOURNAL_BYTES: u64 = 128 * MIB as u64;
/// Time for which entries of a journal are used. After it, a collector may have deleted their blocks.
pub const JOURNAL_SECONDS: u64 = 3 * 24 * 60 * 60;
/// Most clones that are remembered, the last used ones.
pub const CLONES: usize = 16;
/// Time after which an unused clone is forgotten.
pub const CLONE_SECONDS: u64 = 90 * 24 * 60 * 60;
/// Most bytes of the note that names the store of a cache folder.
pub const CACHE_STORE_BYTES: u64 = 64 * KIB as u64;
/// Most bytes of a clone's path.
pub const CLONE_PATH_BYTES: u64 = 4096;
/// Most folders of one source: as many repositories of a Hugging Face cache.
pub const SOURCE_FOLDERS: usize = 1000;
/// Time in which a source has to answer, or it is skipped. Its file server may be gone.
pub const SOURCES_MS: u64 = 5000;
/// Most bytes of the kept ranges of all stores together, unless the user sets another cap.
pub const CACHE_BYTES: u64 = 4 * 1024 * MIB as u64;
/// Bytes of a page of a file system. File systems give out whole pages.
pub const CACHE_PAGE_BYTES: u64 = 4096;
/// Least bytes that a kept range counts, so that there are never many: some 65,000 in [`CACHE_BYTES`].
pub const CACHE_RANGE_COST_BYTES: u64 = 64 * KIB as u64;
/// One part in this many of the room becomes free when ranges are removed, so that the next removal is not
/// soon.
pub const CACHE_SLACK_SHARE: u64 = 16;
/// One part in this many of a disk stays free of kept ranges.
pub const CACHE_RESERVE_SHARE: u64 = 20;
/// Most bytes that stay free of kept ranges on a disk.
pub const CACHE_RESERVE_AT_MOST_BYTES: u64 = 2 * 1024 * MIB as u64;
/// Bytes of kept ranges that are removed at a time for objects, where the disk is full. If one part in
/// [`CACHE_SLACK_SHARE`] is more, that much is removed.
pub const CACHE_GIVES_WAY_BYTES: u64 = 8 * MIB as u64;
/// Least time between two renewals of the date of a kept range that is used.
pub const CACHE_DATED_SECONDS: u64 = 60;
/// Least time between two renewals of the date of its store.
pub const CACHE_STORE_DATED_SECONDS: u64 = 60 * 60;
/// Longest wait for the lock of other processes that make room there.
pub const CACHE_LOCK_MS: u64 = 1000;
/// Days without use after which `cache prune` removes kept data.
pub const CACHE_UNUSED_DAYS: u64 = 30;
/// Most bytes of a git hook; a larger file was not written by hand.
pub const HOOK_BYTES: u64 = MIB as u64;
/// Time in which a program has to answer with its version.
pub const VERSION_SECONDS: u64 = 5;
/// Size beyond which the agent's log is rotated. One older file is kept.
pub const LOG_BYTES: u64 = MIB as u64;
/// Age at which an unfinished download that no running process holds is removed. A running download locks its
/// file soon after it has created it.
pub const SCRATCH_PART_STALE_SECONDS: u64 = 10;
/// Least size of an object whose interrupted download is kept.
pub const PARTIAL_BYTES: u64 = 8 * MIB as u64;
/// Age at which an interrupted download is removed.
pub const PARTIAL_STALE_SECONDS: u64 = 3 * 24 * 60 * 60;
/// Time in which a process has to hold the finished download that it was given. After it, that process holds
/// the file or is dead.
pub const HAND_OVER_MS: u64 = 1000;
/// Age at which a finished download that git-lfs did not take is removed.
pub const SCRATCH_STALE_SECONDS: u64 = 60 * 60;
/// Tries to lock the file at a path, where others may put another file there meanwhile.
pub const LOCK_TRIES: usize = 10;
/// Age from which a file in the making counts as abandoned, where nothing can be locked.
pub const UNLOCKED_STALE_SECONDS: u64 = 24 * 60 * 60;

const _: () = assert!(BLOCK_CHUNKS <= u16::MAX as usize);
const _: () = assert!(BLOCK_BYTES <= u32::MAX as usize);
const _: () = assert!(TERM_CONTENT_BYTES <= u32::MAX as usize);
const _: () = assert!(PAGE_BYTES.is_power_of_two());
