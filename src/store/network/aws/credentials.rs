//! The credentials for S3, from the sources that AWS's own programs search. These are the environment,
//! profiles (keys, SSO, roles, programs), web identity, container, and instance.

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

/// The time before their end at which credentials are replaced.
const SOON: Duration = Duration::from_secs(120);
/// The name of the session in which a job uses its role, unless the environment sets one.
const SESSION_NAME: &str = "git-lfs-cdc";

/// The chain of sources that AWS's own programs search: environment, profiles (keys, SSO, roles, programs),
/// web identity, container, instance.
#[derive(Debug)]
pub(super) struct Chain {
    provider: SharedCredentialsProvider,
    kept: tokio::sync::Mutex<Option<(Arc<AwsCredential>, Option<SystemTime>)>>,
}

impl Chain {
    /// Finds the chain, if there are credentials in it. Fails if the profile that the user has named gives
    /// none, or if credentials are set up and don't work. A failure of an instance's metadata is no error,
    /// because another service may have answered.
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

    /// Returns a chain that has given credentials once.
    async fn asked(provider: impl ProvideCredentials + 'static) -> Result<Self, CredentialsError> {
        let provider = SharedCredentialsProvider::new(provider);
        let chain = Self { provider, kept: tokio::sync::Mutex::default() };
        chain.ask().await?;
        Ok(chain)
    }

    /// Returns credentials that don't end soon.
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

/// Removes line ends and spaces around a credential, which may come from a file or from pasting. Fails if
/// there are any inside, because no credential has these, and no request could carry them.
fn clean(what: &str, text: &str) -> Result<String, CredentialsError> {
    let text = text.trim();
    if text.chars().all(|c| c.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    let why = format!("the {what} has a line end, a space or another character in it that none has");
    Err(CredentialsError::invalid_configuration(why))
}

/// Returns the provider for a job's role. The variables that name the role may have line ends or spaces
/// around their values.
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

/// Returns the last two causes: the attempt, and the reason of its failure.
fn why(error: &CredentialsError) -> String {
    let causes: Vec<String> = causes(error).map(ToString::to_string).collect();
    let why = causes[causes.len().saturating_sub(2)..].join(": ");
    // the output of a user's program may be secret
    why.split(" Stderr:").next().unwrap_or_default().to_owned()
}
