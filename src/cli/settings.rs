//! The settings in git's configuration below `lfs-cdc.`, read and checked.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::config::{self, DeltaRule, Settings};
use crate::error::{Error, Result};
use crate::local::clones::Clones;
use crate::local::limits::{self, Limit};
use crate::repo::{Config, Direction, Repo};
use crate::store::{Access, ChosenBy, Intent, StoreUrl, is_same_endpoint};

/// The names of all settings, in lower case as git prints them.
pub(super) const KNOWN: &[&str] = &[
    "account",
    "acl",
    "allowhttp",
    "cachesize",
    "compressionlevel",
    "concurrency",
    "delta",
    "endpoint",
    "httpmanifest",
    "memory",
    "pathstyle",
    "profile",
    "region",
    "retrytime",
    "shardcache",
    "source",
    "ssekmskeyid",
    "storageclass",
    "trustedendpoint",
];
/// The settings that say how to reach a service, and with which rights. If such a setting is for one store,
/// it counts only if the endpoints of both URLs are the same. A bucket of the same name at another endpoint
/// is another bucket.
const OF_SERVICE: &[&str] = &[
    "account",
    "acl",
    "allowhttp",
    "endpoint",
    "pathstyle",
    "profile",
    "region",
    "ssekmskeyid",
    "storageclass",
];
/// git-lfs's own setting for the number of agents, each with one object at a time. In lower case as git
/// prints it.
pub(super) const TRANSFERS: &str = "lfs.concurrenttransfers";

/// Reads the settings for the store at `url`. `configured` is that URL as git's configuration has it.
pub(super) fn read(repo: &Repo, url: &StoreUrl, configured: &str) -> Result<Settings> {
    let of = Of { config: &repo.config, store: configured };
    let usual = Settings::new(url.repository(), repo.lfs_storage.clone());
    Ok(Settings {
        compression_level: of.number("compressionLevel", 1..=22)?.unwrap_or(usual.compression_level),
        delta: of.yes_or_no("delta")?.unwrap_or(true).then(DeltaRule::default),
        shard_cache_bytes: of.bytes("shardCache", 0)?.unwrap_or(usual.shard_cache_bytes),
        modes: repo.modes,
        sources: of.paths("source", repo.base()),
        clones: Clones::of_user(),
        writes_manifest: of.yes_or_no("httpManifest")?.unwrap_or(usual.writes_manifest),
        memory_bytes: match of.bytes("memory", config::MEMORY_AT_LEAST_BYTES)? {
            Some(set) => set,
            None => usual_memory(limits::memory())?,
        },
        cache_bytes: cache_bytes_of(&of)?,
        ..usual
    })
}

/// Returns the default memory for blocks and buffers, in bytes. It is smaller than usual if the memory is
/// limited.
fn usual_memory(limit: Option<Limit>) -> Result<u64> {
    let Some(Limit { amount, by }) = limit else { return Ok(config::MEMORY_BYTES) };
    let mib = amount >> 20;
    if amount < config::MEMORY_OF_COMMAND_BYTES {
        let least = config::MEMORY_OF_COMMAND_BYTES >> 20;
        return Err(Error::invalid(format!(
            "{by} is {mib} MiB; a push or a pull takes {least} MiB at least"
        ))
        .remedy("allow more memory, or try with lfs-cdc.memory at 48m and lfs.concurrenttransfers at 1"));
    }
    let share = (amount / config::MEMORY_SHARE).max(config::MEMORY_AT_LEAST_BYTES);
    if share < config::MEMORY_BYTES {
        tracing::info!("blocks and buffers take {} MiB, because {by} is {mib} MiB", share >> 20);
    }
    Ok(share.min(config::MEMORY_BYTES))
}

/// Returns the folder for a relative path of a store. Fails if the path is relative and nothing says where
/// the main work tree is.
pub(super) fn top<'r>(repo: &'r Repo, url: &StoreUrl) -> Result<&'r Path> {
    if repo.top.is_none() && url.is_relative() {
        let git_dir = repo.git_dir.display();
        return Err(Error::invalid(format!(
            "the store's path is relative to the main work tree of {git_dir}, and that work tree is not known here"
        ))
        .remedy("run `git lfs-cdc status` once in the main work tree"));
    }
    Ok(repo.base())
}

fn cache_bytes_of(of: &Of<'_>) -> Result<u64> {
    Ok(of.bytes("cacheSize", 0)?.unwrap_or(config::CACHE_BYTES))
}

/// Returns the limit for the cached ranges of all stores together, in bytes.
pub(super) fn cache_bytes(config: &Config) -> Result<u64> {
    cache_bytes_of(&Of { config, store: "" })
}

/// Returns the way to reach the store that `configured` names.
pub(super) fn access(
    config: &Config,
    configured: &str,
    chosen_by: ChosenBy,
    intent: Intent,
) -> Result<Access> {
    let of = Of { config, store: configured };
    let default = Access::default();
    Ok(Access {
        chosen_by,
        intent,
        trusted_endpoints: trusted_endpoints(config),
        region: of.text("region"),
        endpoint: of.text("endpoint"),
        path_style: of.yes_or_no("pathStyle")?,
        account: of.text("account"),
        profile: of.text("profile"),
        concurrency: of.number("concurrency", 1..=1000)?,
        allow_http: of.yes_or_no("allowHttp")?.unwrap_or_default(),
        retry_time: of.number("retryTime", 1..=86_400)?.map_or(default.retry_time, Duration::from_secs),
        sse_kms_key_id: of.text("sseKmsKeyId"),
        stall_time: None,
        storage_class: of.text("storageClass"),
        acl: of.text("acl"),
    })
}

/// Like [`access`], for a command that a person waits for. Such a command gives up soon, unless the user has
/// set the time.
pub(super) fn hurried_access(
    config: &Config,
    configured: &str,
    chosen_by: ChosenBy,
    intent: Intent,
) -> Result<Access> {
    let mut access = access(config, configured, chosen_by, intent)?;
    if (Of { config, store: configured }).text("retryTime").is_none() {
        access.retry_time = Duration::from_secs(config::HURRIED_RETRY_SECONDS);
        access.stall_time = Some(Duration::from_secs(config::HURRIED_STALL_SECONDS));
    }
    Ok(access)
}

/// Returns the endpoints that the user trusts with signed requests.
pub(super) fn trusted_endpoints(config: &Config) -> Vec<String> {
    config.settings("trustedendpoint", "").into_iter().map(str::to_owned).collect()
}

/// Tells if the user or the repository has chosen the LFS URL of a remote.
pub(super) fn chosen_by(config: &Config, remote: &str, direction: Direction) -> ChosenBy {
    if config.is_lfs_url_committed(remote, direction) { ChosenBy::Repository } else { ChosenBy::User }
}

/// Returns a note for each ignored setting: it is for this store's bucket and prefix without an endpoint, and
/// the store's URL names an endpoint.
pub(super) fn ignored(config: &Config, configured: &str) -> Vec<String> {
    let mut notes = Vec::new();
    for name in OF_SERVICE {
        for (key, _) in config.settings_by_store(name) {
            let names_no_endpoint = is_same_endpoint(place(key), key);
            if place(key) == place(configured) && names_no_endpoint && !is_same_endpoint(configured, key) {
                notes.push(format!(
                    "the setting lfs-cdc.{key}.{name} doesn't count for {configured}, whose endpoint is another; \
                     set it for the URL with that endpoint, or unset it"
                ));
            }
        }
    }
    notes
}

/// Returns a URL without its query.
fn place(url: &str) -> &str {
    url.split_once('?').map_or(url, |(place, _)| place)
}

/// The settings of one store.
struct Of<'a> {
    config: &'a Config,
    store: &'a str,
}

impl Of<'_> {
    /// Returns the text of a setting. An empty value counts as none, as with git's own settings.
    fn text(&self, name: &str) -> Option<String> {
        let name = name.to_ascii_lowercase();
        let value = if OF_SERVICE.contains(&name.as_str()) {
            self.of_service(&name)
        } else {
            self.config.setting(&name, self.store)
        };
        value.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// Returns a setting of a service: the one for this very URL, else the one for the same place and
    /// endpoint, else the general one.
    fn of_service(&self, name: &str) -> Option<&str> {
        let is_near = |url: &str| place(url) == place(self.store) && is_same_endpoint(self.store, url);
        self.last_by_store(name, |url| url == self.store)
            .or_else(|| self.last_by_store(name, is_near))
            .or_else(|| self.config.get(&format!("lfs-cdc.{name}")))
    }

    /// Returns the last value of a setting for a store whose URL `is_meant`.
    fn last_by_store(&self, name: &str, is_meant: impl Fn(&str) -> bool) -> Option<&str> {
        let mut set = self.config.settings_by_store(name).rev();
        set.find(|(url, _)| is_meant(url)).map(|(_, value)| value)
    }

    /// Returns a number within `range`.
    fn number<N>(&self, name: &str, range: std::ops::RangeInclusive<N>) -> Result<Option<N>>
    where
        N: FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| {
            Error::invalid(format!("lfs-cdc.{name} is {text:?}")).remedy(format!(
                "set it to a number from {} to {}, or unset it",
                range.start(),
                range.end()
            ))
        })
    }

    /// Returns all values of a setting as paths. `~/` is the user's home. Other relative paths begin at
    /// `top`, like those of stores.
    fn paths(&self, name: &str, top: &Path) -> Vec<PathBuf> {
        let values = self.config.settings(&name.to_ascii_lowercase(), self.store);
        let user = directories::BaseDirs::new();
        let path = |value: &&str| match (Path::new(value).strip_prefix("~"), &user) {
            (Ok(rest), Some(user)) => user.home_dir().join(rest),
            _ => top.join(value),
        };
        values.iter().map(path).collect()
    }

    /// Returns a size in bytes. The text may end with k, m or g, as in git.
    fn bytes(&self, name: &str, at_least: u64) -> Result<Option<u64>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
            "" => Some(0),
            "k" => Some(10),
            "m" => Some(20),
            "g" => Some(30),
            _ => None,
        };
        let bytes = shift.and_then(|shift| digits.parse::<u64>().ok()?.checked_mul(1 << shift));
        bytes.filter(|bytes| *bytes >= at_least).map(Some).ok_or_else(|| {
            let right = if at_least == 0 {
                "a size such as 500m or 4g".to_owned()
            } else {
                format!("{}m or more", at_least >> 20)
            };
            Error::invalid(format!("lfs-cdc.{name} is {text:?}"))
                .remedy(format!("set it to {right}, or unset it"))
        })
    }

    /// Returns a boolean in one of git's words for it.
    fn yes_or_no(&self, name: &str) -> Result<Option<bool>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(Some(true)),
            "false" | "no" | "off" | "0" => Ok(Some(false)),
            _ => Err(Error::invalid(format!("lfs-cdc.{name} is {text:?}"))
                .remedy("set it to true or false, or unset it")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_of_a_service_counts_only_for_the_endpoint_of_its_url() {
        const HERE: &str = "cdc::s3://team/game";
        let there = |endpoint: &str| format!("{HERE}?region=r&endpoint={endpoint}&repository=x");
        let text = |entries: &[(&str, &str)], store: &str, name: &str| {
            Of { config: &Config::of(entries), store }.text(name)
        };
        let value = Some("team".to_owned());
        for name in OF_SERVICE {
            let key = format!("lfs-cdc.{HERE}.{name}");
            let set = [(key.as_str(), "team")];
            assert_eq!(text(&set, HERE, name), value, "{name}");
            assert_eq!(text(&set, &format!("{HERE}?repository=x&region=r"), name), value, "{name}");
            assert_eq!(text(&set, &there("https://evil"), name), None, "{name}");
            let notes = ignored(&Config::of(&set), &there("https://evil"));
            assert!(matches!(&notes[..], [note] if note.contains(&key)), "{notes:?}");
            assert!(ignored(&Config::of(&set), HERE).is_empty(), "{name}");

            let key = format!("lfs-cdc.{HERE}?endpoint=https://s3.example.com.{name}");
            let set = [(key.as_str(), "team")];
            assert_eq!(text(&set, &there("https%3A%2F%2FS3.example.com:443/"), name), value, "{name}");
            for other in ["https://evil", "http://s3.example.com", "https://s3.example.com:444", "x"] {
                assert_eq!(text(&set, &there(other), name), None, "{name} at {other}");
            }
            assert_eq!(text(&set, HERE, name), None, "{name}");
            assert!(ignored(&Config::of(&set), &there("https://evil")).is_empty(), "{name}");
            // the last endpoint of a URL is the one that counts
            let twice = there("https://s3.example.com&endpoint=https://evil");
            assert_eq!(text(&set, &twice, name), None, "{name}");

            let general = format!("lfs-cdc.{name}");
            assert_eq!(text(&[(&general, "team")], &there("https://evil"), name), value, "{name}");
        }
        let other = [("lfs-cdc.cdc::s3://team/game.concurrency", "3")];
        assert_eq!(text(&other, &there("https://evil"), "concurrency").as_deref(), Some("3"));
    }

    #[test]
    fn less_memory_is_taken_where_it_is_limited_and_too_little_is_an_error_that_says_how_much_is_needed() {
        let usual = |mib: u64| usual_memory(Some(Limit { amount: mib << 20, by: "the limit" }));
        assert_eq!(usual_memory(None).unwrap(), config::MEMORY_BYTES);
        for (mib, taken) in [(160, 48), (384, 96), (1000, 250), (2048, 512), (64_000, 512)] {
            assert_eq!(usual(mib).unwrap() >> 20, taken, "{mib}");
        }
        let error = usual(159).unwrap_err().to_string();
        assert!(error.contains("the limit is 159 MiB") && error.contains("160 MiB"), "{error}");
    }

    #[test]
    fn a_size_is_read_as_git_writes_it_and_anything_else_is_an_error_that_says_what_is_right() {
        let read = |text: &str| {
            let config = Config::of(&[("lfs-cdc.memory", text)]);
            Of { config: &config, store: "cdc::/store" }.bytes("memory", config::MEMORY_AT_LEAST_BYTES)
        };
        for (text, bytes) in
            [("201326592", 192 << 20), ("48M", 48 << 20), ("1g", 1 << 30), ("500000k", 512_000_000)]
        {
            assert_eq!(read(text).unwrap(), Some(bytes), "{text}");
        }
        assert_eq!(read(" ").unwrap(), None);
        for wrong in
            ["47m", "0", "-1g", "1.5g", "g", "1t", "1mb", "much", "99999999999g", "999999999999999999999"]
        {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains("lfs-cdc.memory") && error.contains("48m or more"), "{error}");
        }
        let cache = |text: &str| cache_bytes(&Config::of(&[("lfs-cdc.cachesize", text)]));
        assert_eq!((cache("0").unwrap(), cache("20g").unwrap()), (0, 20 << 30));
        assert_eq!(cache("").unwrap(), config::CACHE_BYTES);
        let error = cache("much").unwrap_err().to_string();
        assert!(error.contains("lfs-cdc.cacheSize") && error.contains("such as 500m"), "{error}");
    }
}
