//! Where AWS's own programs look for credentials: environment, profiles (keys, SSO, roles, programs), web identity,
//! container, instance.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider as Environment;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::meta::region::ProvideRegion;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider as WebIdentity;
use aws_config::{Region, imds};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;

use crate::error::{Error, Kind, Result};
use crate::store::access::Access;
use crate::store::network::{causes, variable};

/// Credentials that end this soon are replaced before they are used.
const SOON: Duration = Duration::from_secs(120);

pub(super) async fn region_of_profile(access: &Access) -> Option<String> {
    let mut builder = ProfileFileRegionProvider::builder();
    if let Some(profile) = &access.profile {
        builder = builder.profile_name(profile);
    }
    builder.build().region().await.map(|region| region.to_string())
}

/// The chain that AWS's own programs search: environment, profiles (keys, SSO, roles, programs), web
/// identity, container, instance.
#[derive(Debug)]
pub(super) struct Chain {
    provider: SharedCredentialsProvider,
    kept: tokio::sync::Mutex<Option<(Arc<AwsCredential>, Option<SystemTime>)>>,
}

impl Chain {
    /// The chain, if there are credentials in it. What was asked for by name has to be there, and what is set
    /// up has to work; but whatever answers in place of an instance's metadata is no reason to give up.
    pub(super) async fn find(access: &Access, region: &str) -> Result<Option<Self>> {
        crate::store::network::choose_cryptography();
        let region = Some(Region::new(region.to_owned()));
        let config = ProviderConfig::without_region().with_region(region);
        // addresses inside a cloud are not behind a proxy
        let inside = config.clone().with_http_client(http(None));
        let config = config.with_http_client(http(Some(ProxyConfig::from_env())));
        let profile = ProfileFileCredentialsProvider::builder().configure(&config);
        if let Some(name) = &access.profile {
            return Self::asked(profile.profile_name(name).build())
                .await
                .map(Some)
                .map_err(|error| unusable(&error));
        }
        let is_named = variable("AWS_PROFILE").is_some();
        let chain = CredentialsProviderChain::first_try("environment", Environment::new())
            .or_else("profile", profile.build())
            .or_else("web identity", WebIdentity::builder().configure(&config).build())
            .or_else("container", EcsCredentialsProvider::builder().configure(&inside).build());
        match Self::asked(chain).await {
            Ok(chain) => return Ok(Some(chain)),
            Err(CredentialsError::CredentialsNotLoaded(_)) if !is_named => {}
            Err(error) => return Err(unusable(&error)),
        }
        let client = imds::Client::builder().configure(&inside).max_attempts(2);
        let client = client.connect_timeout(Duration::from_secs(1)).read_timeout(Duration::from_secs(2));
        let instance = imds::credentials::ImdsCredentialsProvider::builder().imds_client(client.build());
        match Self::asked(instance.configure(&inside).build()).await {
            Ok(chain) => Ok(Some(chain)),
            Err(error) => {
                tracing::info!("no AWS credentials were found; requests go unsigned ({})", why(&error));
                Ok(None)
            }
        }
    }

    /// A chain that has given credentials once.
    async fn asked(provider: impl ProvideCredentials + 'static) -> Result<Self, CredentialsError> {
        let provider = SharedCredentialsProvider::new(provider);
        let chain = Self { provider, kept: tokio::sync::Mutex::default() };
        chain.ask().await?;
        Ok(chain)
    }

    /// Credentials that last a while yet.
    async fn ask(&self) -> Result<Arc<AwsCredential>, CredentialsError> {
        let mut kept = self.kept.lock().await;
        if let Some((credential, end)) = &*kept
            && end.is_none_or(|end| end > SystemTime::now() + SOON)
        {
            return Ok(credential.clone());
        }
        let found = self.provider.provide_credentials().await?;
        let credential = Arc::new(AwsCredential {
            key_id: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            token: found.session_token().map(str::to_owned),
        });
        *kept = Some((credential.clone(), found.expiry()));
        Ok(credential)
    }
}

#[async_trait]
impl CredentialProvider for Chain {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        self.ask()
            .await
            .map_err(|error| object_store::Error::Generic { store: "S3", source: Box::new(unusable(&error)) })
    }
}

fn unusable(error: &CredentialsError) -> Error {
    Error::new(Kind::Denied, format!("the AWS credentials can't be used: {}", why(error))).remedy(
        "sign in again (`aws sso login`), or check AWS_PROFILE, lfs-cdc.profile and the files in ~/.aws",
    )
}

/// The last two causes: what was tried, and why it failed.
fn why(error: &CredentialsError) -> String {
    let causes: Vec<String> = causes(error).map(ToString::to_string).collect();
    let why = causes[causes.len().saturating_sub(2)..].join(": ");
    // what a program of the user's prints may be secret
    why.split(" Stderr:").next().unwrap_or_default().to_owned()
}

/// A client for those who give credentials.
fn http(proxy: Option<ProxyConfig>) -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().build_with_connector_fn(move |settings, _| {
        let proxy = proxy.clone().unwrap_or_else(ProxyConfig::disabled);
        let mut builder = aws_smithy_http_client::Connector::builder().proxy_config(proxy);
        builder.set_connector_settings(settings.cloned());
        builder.tls_provider(Provider::Rustls(CryptoMode::Ring)).build()
    })
}
