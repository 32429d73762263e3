//! Azure Blob Storage.

use std::sync::Arc;
use std::time::Duration;

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::path::Path;
use tokio::runtime::Handle;

use super::wire::{Redirects, Wire};
use super::{Opened, check_endpoint, misconfigured, no_retries, root, variable};
use crate::error::{Error, Kind, Result};
use crate::store::access::Access;

/// How long a machine's own identity may take: outside of Azure nobody answers.
const FIRST_TOKEN: Duration = Duration::from_secs(5);

/// The account in a committed URL is used on Azure's own host names only: where an endpoint is set, the
/// user has to say whose account it is, since keys and tokens are sent there.
pub(super) fn open(
    container: &str,
    prefix: &Path,
    account: Option<&str>,
    access: &Access,
    runtime: &Handle,
) -> Result<Opened> {
    let endpoint = ["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"].into_iter().find_map(variable);
    let endpoint = access.endpoint.clone().or(endpoint);
    let endpoint = endpoint.map(|text| check_endpoint(&text, access.allow_http)).transpose()?;
    let configured = MicrosoftAzureBuilder::from_env();
    let in_environment = configured.get_config_value(&AzureConfigKey::AccountName);
    let committed = account.filter(|_| endpoint.is_none()).map(str::to_owned);
    let account = access.account.clone().or(committed).or(in_environment).ok_or_else(|| {
        Error::invalid(format!("the storage account of az://{container} is not known")).remedy(
            "put it into the URL (?account=NAME), or set lfs-cdc.account or AZURE_STORAGE_ACCOUNT_NAME",
        )
    })?;
    let host = match &endpoint {
        Some(url) => url.host_str().unwrap_or_default().to_owned(),
        None => format!("{account}.blob.core.windows.net"),
    };
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
    })
}

/// Where credentials come from.
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
