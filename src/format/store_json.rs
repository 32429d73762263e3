//! `store.json`: the store's format version, id and chunking suite. It is written once.

use serde::{Deserialize, Serialize};

use super::chunking::{self, Suite};
use super::container::Features;
use crate::error::{Error, Result};
use crate::format::limits;
use crate::id::StoreId;

const FORMAT: &str = "git-lfs-cdc store";
const VERSION: u32 = 1;

/// The contents of `store.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreDescription {
    /// The store's id, which never changes.
    pub id: StoreId,
    /// The chunking suite of the store's objects.
    pub suite: Suite,
    /// Feature bits.
    pub features: Features,
    /// The mode of files in a directory store that several users share. `None` if the umask of each user
    /// decides.
    pub file_mode: Option<u32>,
    /// True if new names are written with the condition that they don't exist. The service proved that it
    /// honours the condition when the store was created.
    pub creates: bool,
}

#[derive(Serialize, Deserialize)]
struct Json {
    format: String,
    version: u32,
    store_id: String,
    suite: String,
    #[serde(default)]
    features: JsonFeatures,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shared_file_mode: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    conditional_put: bool,
}

#[derive(Default, Serialize, Deserialize)]
struct JsonFeatures {
    #[serde(default)]
    ignorable: u32,
    #[serde(default)]
    read_only: u32,
    #[serde(default)]
    incompatible: u32,
}

/// Returns true if files of a shared store may have this mode: the owner reads and writes, nobody executes,
/// and no other bit is set.
pub fn is_file_mode(mode: u32) -> bool {
    mode & !0o666 == 0 && mode & 0o600 == 0o600
}

impl StoreDescription {
    /// Makes the description of a new store of this version, with a random id.
    pub fn new(file_mode: Option<u32>) -> Result<Self> {
        let features = Features::default();
        Ok(Self { id: StoreId::random()?, suite: chunking::GEAR_16K, features, file_mode, creates: false })
    }

    /// Returns the bytes of `store.json`.
    pub fn write(&self) -> Result<Vec<u8>> {
        let json = Json {
            format: FORMAT.into(),
            version: VERSION,
            store_id: self.id.to_string(),
            suite: self.suite.name.into(),
            features: JsonFeatures {
                ignorable: self.features.ignorable,
                read_only: self.features.read_only,
                incompatible: self.features.incompatible,
            },
            shared_file_mode: self.file_mode.map(|mode| format!("{mode:04o}")),
            conditional_put: self.creates,
        };
        let mut bytes = serde_json::to_vec_pretty(&json)
            .map_err(|e| Error::internal(format!("store.json can't be written: {e}")))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads `store.json`. Refuses a newer version, an unknown suite and unknown incompatible features.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let damaged = |why: String| Error::corrupt(format!("store.json is damaged: {why}"));
        if bytes.len() > limits::STORE_JSON_BYTES {
            return Err(damaged(format!("{} bytes", bytes.len())));
        }
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
        if value.get("format").and_then(|f| f.as_str()) != Some(FORMAT) {
            return Err(Error::invalid("store.json is not of a git-lfs-cdc store"));
        }
        // before the other fields are read, because a newer version may have changed them
        if value.get("version").and_then(serde_json::Value::as_u64).is_some_and(|v| v > u64::from(VERSION)) {
            return Err(Error::too_new("this store"));
        }
        let json: Json = serde_json::from_value(value).map_err(|e| damaged(e.to_string()))?;
        let features = Features {
            ignorable: json.features.ignorable,
            read_only: json.features.read_only,
            incompatible: json.features.incompatible,
        };
        features.check("this store")?;
        let mode = |text: String| {
            let octal = text.bytes().all(|b| (b'0'..=b'7').contains(&b));
            let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| octal && is_file_mode(*mode));
            mode.ok_or_else(|| damaged(format!("{text:?} is not a mode of files that a store may have")))
        };
        Ok(Self {
            id: StoreId::parse(&json.store_id).map_err(|e| damaged(e.to_string()))?,
            suite: Suite::by_name(&json.suite)?,
            features,
            file_mode: json.shared_file_mode.map(mode).transpose()?,
            creates: json.conditional_put,
        })
    }
}
