//! Azure Blob Storage.

use std::sync::Arc;
use std::time::Duration;

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::path::Path;
use tokio::runtime::Handle;

use super::wire::{Redirects, Wire};
use super::{Opened, endpoint, misconfigured, no_retries, root, variable};
use crate::error::{Error, Kind, Result};
use crate::store::names;
use crate::store::options::Access;

/// The time that a token for a machine's own identity may take. Outside of Azure, no service answers.
const FIRST_TOKEN: Duration = Duration::from_secs(5);

/// Opens a container. The account in a committed URL is used on Azure's own host names only. If an endpoint
/// is set, the user has to name its account, because keys and tokens are sent there.
pub(super) fn open(
    container: &str,
    prefix: &Path,
    account: Option<&str>,
    access: &Access,
    runtime: &Handle,
) -> Result<Opened> {
    let endpoint = ["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"].into_iter().find_map(variable);
    let endpoint = access.endpoint.clone().or(endpoint);
    let endpoint = endpoint.map(|text| endpoint::check(&text, access.allow_http)).transpose()?;
    let configured = from_environment()?;
    let in_environment = configured.get_config_value(&AzureConfigKey::AccountName);
    let committed = account.filter(|_| endpoint.is_none()).map(str::to_owned);
    let account = access.account.clone().or(committed).or(in_environment).ok_or_else(|| {
        Error::invalid(format!("the storage account of az://{container} is not known")).remedy(
            "put it into the URL (?account=NAME), or set lfs-cdc.account or AZURE_STORAGE_ACCOUNT_NAME",
        )
    })?;
    let host = find_host(&account, endpoint.as_ref())?;
    let url = endpoint.as_ref().map_or_else(|| format!("https://{host}"), ToString::to_string);
    let wire = Wire::new(access, Redirects::Refuse)?;
    let mut builder = configured
        .with_account(account)
        .with_container_name(container)
        .with_endpoint(url.trim_end_matches('/').to_owned())
        .with_use_emulator(false)
        .with_allow_http(true)
        .with_retry(no_retries())
        .with_http_connector(wire);
    let source = Source::of(&builder);
    if source == Source::CommandLine {
        builder = builder.with_use_azure_cli(true);
    }
    let mut store = builder.clone().build().map_err(misconfigured)?;
    let mut is_anonymous = false;
    let credentials = store.credentials().clone();
    let most = if source == Source::Machine { FIRST_TOKEN } else { access.retry_time };
    let asked = async { tokio::time::timeout(most, credentials.get_credential()).await };
    let why = match runtime.block_on(asked) {
        Ok(Ok(_)) => None,
        Ok(Err(e)) => Some(root(&e)),
        Err(_) => Some("no token came in time".to_owned()),
    };
    match (why, source) {
        (None, _) => {}
        (Some(why), Source::Machine) => {
            tracing::info!("no Azure credentials were found; requests go unsigned ({why})");
            is_anonymous = true;
            store = builder.with_skip_signature(true).build().map_err(misconfigured)?;
        }
        (Some(why), _) => {
            return Err(Error::new(Kind::Denied, format!("Azure's credentials can't be used: {why}"))
                .remedy("run `az login`, or check what is set in AZURE_*"));
        }
    }
    let store = Arc::new(store);
    Ok(Opened {
        objects: store.clone(),
        parts: Some(store),
        prefix: prefix.clone(),
        endpoint,
        host,
        is_anonymous,
        is_untrusted: false,
    })
}

/// Returns the host that requests go to. Without an endpoint, this is the account's own.
fn find_host(account: &str, endpoint: Option<&reqwest::Url>) -> Result<String> {
    match endpoint {
        Some(url) => Ok(url.host_str().unwrap_or_default().to_owned()),
        None if names::is_account(account) => Ok(format!("{account}.blob.core.windows.net")),
        None => Err(Error::invalid(format!("{account:?} can't be the name of a storage account"))
            .remedy("correct lfs-cdc.account or AZURE_STORAGE_ACCOUNT_NAME")),
    }
}

/// Reads the settings of the environment. Removes line ends and spaces around a value, which may come from a
/// file or from pasting. No request could carry these characters, so a key that has some inside is refused.
fn from_environment() -> Result<MicrosoftAzureBuilder> {
    use AzureConfigKey as Key;
    let mut builder = MicrosoftAzureBuilder::new();
    for (name, value) in std::env::vars_os() {
        let (Some(name), Some(value)) = (name.to_str(), value.to_str().map(str::trim)) else { continue };
        let Ok(key) = name.to_ascii_lowercase().parse::<Key>() else { continue };
        if !name.starts_with("AZURE_") || value.is_empty() {
            continue;
        }
        check_value(name, value, matches!(key, Key::AccessKey | Key::SasKey | Key::Token))?;
        builder = builder.with_config(key, value);
    }
    if let Some(endpoint) = variable("IDENTITY_ENDPOINT") {
        builder = builder.with_msi_endpoint(endpoint);
    }
    // the library itself reads the variable
    if let Ok(header) = std::env::var("IDENTITY_HEADER") {
        check_value("IDENTITY_HEADER", &header, true)?;
    }
    Ok(builder)
}

fn check_value(name: &str, value: &str, is_key: bool) -> Result<()> {
    let is_sound = |c: char| if is_key { c.is_ascii_graphic() } else { !c.is_control() };
    if value.chars().all(is_sound) {
        return Ok(());
    }
    Err(Error::invalid(format!("{name} has a line end, a space or another character in it that none has"))
        .remedy("set it again, without that"))
}

/// The source of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Environment,
    /// `az login`.
    CommandLine,
    /// A managed identity, if this machine has one.
    Machine,
}

impl Source {
    fn of(builder: &MicrosoftAzureBuilder) -> Self {
        use AzureConfigKey as Key;
        let is_set = |key: Key| builder.get_config_value(&key).is_some();
        let keys = [Key::AccessKey, Key::SasKey, Key::Token, Key::ClientSecret, Key::FederatedTokenFile];
        let path = std::env::var_os("PATH").unwrap_or_default();
        match () {
            () if keys.into_iter().any(is_set) => Self::Environment,
            () if variable("IDENTITY_ENDPOINT").is_some() || is_set(Key::MsiEndpoint) => Self::Machine,
            () if std::env::split_paths(&path).any(|folder| folder.join("az").is_file()) => Self::CommandLine,
            () => Self::Machine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_no_request_can_carry_is_named_and_not_shown() {
        for (value, is_key) in
            [("c2Vj\ncmV0", true), ("sec ret", true), ("s\u{e9}cret", true), ("a\rb", false)]
        {
            let error = check_value("AZURE_STORAGE_TOKEN", value, is_key).unwrap_err().to_string();
            assert!(error.contains("AZURE_STORAGE_TOKEN") && !error.contains(value), "{error}");
        }
        assert!(check_value("AZURE_STORAGE_KEY", "c2VjcmV0+/==", true).is_ok());
        assert!(check_value("AZURE_FEDERATED_TOKEN_FILE", "/a b/t\u{f6}ken", false).is_ok());
    }
}
