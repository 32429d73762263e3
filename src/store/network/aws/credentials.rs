//! Where AWS's own programs look for credentials: environment, profiles (keys, SSO, roles, programs), web identity,
//! container, instance.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider as Environment;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::{
    StaticConfiguration, WebIdentityTokenCredentialsProvider as WebIdentity,
};
use aws_config::{Region, imds};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;

use super::http;
use super::profile::Profile;
use crate::error::{Error, Kind, Result};
use crate::store::network::{causes, variable};
use crate::store::options::Access;

/// Credentials that end this soon are replaced before they are used.
const SOON: Duration = Duration::from_secs(120);
/// What a job's use of its role is called, unless the environment says.
const SESSION_NAME: &str = "git-lfs-cdc";

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
    pub(super) async fn find(access: &Access, named: &Profile, region: &str) -> Result<Option<Self>> {
        crate::store::network::choose_cryptography();
        let region = Some(Region::new(region.to_owned()));
        let config = ProviderConfig::without_region().with_region(region);
        let inside = config.clone().with_http_client(http::client(true));
        let config = config.with_http_client(http::client(false));
        let mut profile =
            ProfileFileCredentialsProvider::builder().configure(&config).profile_files(named.files.clone());
        if let Some(name) = &named.name {
            profile = profile.profile_name(name);
        }
        if access.profile.is_some() {
            return Self::asked(profile.build()).await.map(Some).map_err(|error| unusable(&error));
        }
        let chain = CredentialsProviderChain::first_try("environment", Environment::new())
            .or_else("profile", profile.build())
            .or_else("web identity", web_identity(&config))
            .or_else("container", EcsCredentialsProvider::builder().configure(&inside).build());
        match Self::asked(chain).await {
            Ok(chain) => return Ok(Some(chain)),
            Err(CredentialsError::CredentialsNotLoaded(_)) if named.name.is_none() => {}
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
            key_id: clean("access key id", found.access_key_id())?,
            secret_key: clean("secret access key", found.secret_access_key())?,
            token: found.session_token().map(|token| clean("session token", token)).transpose()?,
        });
        *kept = Some((credential.clone(), found.expiry()));
        Ok(credential)
    }
}

/// What was pasted or read from a file may have line ends or spaces around it. None has any inside, nor could a request carry it.
fn clean(what: &str, text: &str) -> Result<String, CredentialsError> {
    let text = text.trim();
    if text.chars().all(|c| c.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    let why = format!("the {what} has a line end, a space or another character in it that none has");
    Err(CredentialsError::invalid_configuration(why))
}

/// A job's role; what names it may have line ends or spaces around it.
fn web_identity(config: &ProviderConfig) -> WebIdentity {
    let mut builder = WebIdentity::builder().configure(config);
    let file = variable("AWS_WEB_IDENTITY_TOKEN_FILE");
    if let Some((file, role_arn)) = file.zip(variable("AWS_ROLE_ARN")) {
        let session_name = variable("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| SESSION_NAME.to_owned());
        let web_identity_token_file = file.into();
        builder = builder.static_configuration(StaticConfiguration {
            web_identity_token_file,
            role_arn,
            session_name,
        });
    }
    builder.build()
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
