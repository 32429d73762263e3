//! Rules of the protocol. Each can be left out.

/// The rules that the actors keep. A rule that is `false` is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// I1: the check comes after the commit, not before it.
    pub check_after_commit: bool,
    /// I5: "it is there already" is checked like anything else.
    pub check_skips: bool,
    /// I5: a record that is old, or another repository's, is written afresh.
    pub renew_old_records: bool,
    /// A record that is relied on is still fresh when that is checked.
    pub fresh_at_check: bool,
    /// The block of an interrupted push is checked like any other.
    pub check_resumed: bool,
    /// The block of an interrupted push is looked for, because it may never have arrived.
    pub look_for_resumed: bool,
    /// A block that the index names is looked for before it is relied on.
    pub look_for_blocks: bool,
    /// I7: a cached segment is used only if a LIST names it.
    pub list_before_cache: bool,
    /// I2: all commits are read once more after condemning.
    pub read_again: bool,
    /// All commits are read when two LISTs in a row are equal.
    pub two_equal_lists: bool,
    /// I3: a block's name has a nonce.
    pub nonces: bool,
    /// I4: a collector that has deleted doesn't lift its own condemnations.
    pub keep_own_lists: bool,
    /// I4: a collector doesn't lift the condemnations of another.
    pub keep_others_lists: bool,
    /// Index entries are deleted before blocks.
    pub entries_first: bool,
    /// A merge keeps every record.
    pub merge_keeps_records: bool,
    /// A merged segment's name sorts after those that it replaces.
    pub merged_sorts_after: bool,
    /// A replaced segment is deleted only after the PUT of its replacement.
    pub put_before_delete: bool,
    /// A replaced segment is deleted only if a LIST since then has its replacement.
    pub list_before_delete: bool,
    /// Files inside a segment get files of their own before the segment is replaced or deleted.
    pub unload: bool,
    /// A collector condemns the blocks that segments carry like others.
    pub condemn_carried: bool,
    /// In a directory: a folder is synced before anything relies on a file in it.
    pub sync_before_relying: bool,
    /// In a directory: `index/` is synced before a replaced segment is deleted.
    pub sync_before_delete: bool,
    /// A reader that misses a segment lists again.
    pub list_again: bool,
    /// A pull tries the next record when a block is gone.
    pub try_next_record: bool,
}

impl Rules {
    /// The protocol as `docs/format.md` has it.
    pub const ALL: Self = Self {
        check_after_commit: true,
        check_skips: true,
        renew_old_records: true,
        fresh_at_check: true,
        check_resumed: true,
        look_for_resumed: true,
        look_for_blocks: true,
        list_before_cache: true,
        read_again: true,
        two_equal_lists: true,
        nonces: true,
        keep_own_lists: true,
        keep_others_lists: true,
        entries_first: true,
        merge_keeps_records: true,
        merged_sorts_after: true,
        put_before_delete: true,
        list_before_delete: true,
        unload: true,
        condemn_carried: true,
        sync_before_relying: true,
        sync_before_delete: true,
        list_again: true,
        try_next_record: true,
    };
}
