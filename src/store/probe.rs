//! The probe: it finds out by trying which guarantees a store's service gives. It deletes only the objects
//! that it has just written.

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode};

use super::files::{Files, is_taken};
use super::network::may_refuse_conditions;
use super::retry::Retry;
use super::{Moved, layout};
use crate::error::{Error, Kind, Result};
use crate::id::Nonce;
use crate::store::files::FREE_NAMES_CALLED_TAKEN;

const CONTENT: &[u8] = b"git-lfs-cdc looks whether this can be written and read; it may be deleted";

/// The results of a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// True if a conditional write doesn't overwrite a name that is taken.
    pub honours_conditions: bool,
    /// True if a name that is taken can be written again. `index/manifest` and storing in parts need this.
    pub may_overwrite: bool,
    /// True if byte ranges come back right.
    pub reads_ranges: bool,
    /// True if a listing shows all objects that were written before it.
    pub lists_at_once: bool,
    /// True if the written objects could be removed.
    pub may_delete: bool,
    /// The names of objects that stayed.
    pub left: Vec<String>,
}

/// Writes three small objects, reads and lists them, and removes them if that is allowed. Fails if they
/// can't be written or read.
pub(super) async fn run(files: &Files) -> Result<Probe> {
    let nonce = Nonce::random()?;
    let [plain, conditional, rewritten] = [0, 1, 2].map(|number| layout::probe(&nonce, number));
    let mut probe = Probe::default();

    // the service may demand the condition in each write of an access key that must not overwrite
    let first = put(files, &conditional, PutMode::Create).await;
    if let Err(error) = &first
        && error.is_lasting()
    {
        return Err(error.clone());
    }
    let can_ask = first.is_ok();
    probe.honours_conditions = can_ask
        && match files.objects.put_opts(&conditional, CONTENT.into(), PutMode::Create.into()).await {
            // an access key that may only create is denied before the condition is looked at; nothing is
            // overwritten
            Err(error) => is_taken(&error) || files.place.explain("probing", error).kind() == Kind::Denied,
            Ok(_) => false,
        };
    let usual = if probe.honours_conditions { PutMode::Create } else { PutMode::Overwrite };
    put(files, &plain, usual.clone()).await?;
    put(files, &rewritten, usual).await?;
    let again = files.objects.put_opts(&rewritten, CONTENT.into(), PutMode::Overwrite.into()).await;
    probe.may_overwrite = again.is_ok();

    let range = files.get_range(&plain, 4..11, Vec::new(), &Moved::default()).await?;
    probe.reads_ranges = range == CONTENT[4..11];
    let mut listed = Vec::new();
    files.list(layout::PROBES, |name, _| listed.push(name.to_owned())).await?;
    let shows = |path: &Path| listed.iter().any(|name| Some(name.as_str()) == path.filename());
    probe.lists_at_once = shows(&plain) && shows(&rewritten);

    for path in [plain, conditional, rewritten] {
        let removed = files.objects.delete(&path).await;
        let gone = removed.is_ok() && matches!(files.size(&path).await, Ok(None));
        if !gone && matches!(files.size(&path).await, Ok(Some(_))) {
            probe.left.push(path.to_string());
        }
    }
    probe.may_delete = probe.left.is_empty();
    if !probe.reads_ranges {
        return Err(Error::corrupt(format!("{} gives wrong byte ranges", files.place))
            .remedy("this service can't hold a store; report it to whoever runs it"));
    }
    Ok(probe)
}

/// Returns true if the service refuses conditional writes, and writes without a condition. Writes a small
/// object, and removes it if that is allowed.
pub(super) async fn refuses_conditions(files: &Files) -> Result<bool> {
    let path = layout::probe(&Nonce::random()?, 0);
    let write = |mode: PutMode| files.objects.put_opts(&path, CONTENT.into(), files.options(mode));
    let mut untrue = 0;
    let refused = loop {
        let error = match write(PutMode::Create).await {
            Ok(_) => break false,
            Err(error) => error,
        };
        let is_untrue = is_taken(&error) && matches!(files.size(&path).await, Ok(None));
        untrue += usize::from(is_untrue);
        if may_refuse_conditions(&error) || untrue == FREE_NAMES_CALLED_TAKEN {
            break write(PutMode::Overwrite).await.is_ok();
        }
        if !is_untrue {
            return Err(files.place.explain("probing", error));
        }
    };
    let _ = files.objects.delete(&path).await;
    Ok(refused)
}

/// Writes a probe. Tries again after errors that may pass.
async fn put(files: &Files, path: &Path, mode: PutMode) -> Result<()> {
    let doing = format!("writing {path}");
    let mut retry = Retry::new(&files.place, &doing);
    let mut untrue = 0;
    loop {
        let error = match files.objects.put_opts(path, CONTENT.into(), files.options(mode.clone())).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if is_taken(&error) {
            // an earlier try has succeeded
            if matches!(files.size(path).await, Ok(Some(_))) {
                return Ok(());
            }
            untrue += 1;
            if untrue == FREE_NAMES_CALLED_TAKEN {
                return Err(files.place.explain(&doing, error));
            }
        }
        retry.again(error).await?;
    }
}
