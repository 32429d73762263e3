//! The user's AWS configuration files, which may name the service's endpoint and the region.

use std::borrow::Cow;
use std::path::PathBuf;

use aws_config::meta::region::ProvideRegion;
use aws_config::profile::ProfileFileRegionProvider;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_runtime::env_config::section::EnvConfigSections;
use aws_runtime::env_config::{EnvConfigValue, source};
use aws_types::os_shim_internal::{Env, Fs};

use crate::store::network::variable;
use crate::store::options::Access;

/// The mark that editors on Windows put in front of a text.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// The configuration files, and the profile in use.
pub(super) struct Profile {
    pub files: EnvConfigFiles,
    /// The profile that the user has named. With none, it is `default`.
    pub name: Option<String>,
    /// The parsed files; none if they can't be understood. The search for credentials reports that.
    sections: Option<EnvConfigSections>,
}

impl Profile {
    pub(super) async fn load(access: &Access) -> Self {
        let name = access.profile.clone().or_else(|| variable("AWS_PROFILE"));
        let files = files();
        let source = source::load(&Env::real(), &Fs::real(), &files).await;
        let sections = source.ok().and_then(|mut source| {
            if let Some(name) = &name {
                source.profile = Cow::Owned(name.clone());
            }
            EnvConfigSections::parse(source).ok()
        });
        Self { files, name, sections }
    }

    /// Returns the endpoints that the profile's section for services names, and then the one of the profile
    /// itself.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = String> {
        let nothing = Env::from_slice(&[]);
        let find = |key: EnvConfigValue<'_>| {
            let (value, _) = key.load(&nothing, self.sections.as_ref())?;
            Some(value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let of_all = || EnvConfigValue::new().profile("endpoint_url");
        [find(of_all().service_id("s3")), find(of_all())].into_iter().flatten()
    }

    pub(super) async fn region(&self) -> Option<String> {
        let mut builder = ProfileFileRegionProvider::builder().profile_files(self.files.clone());
        if let Some(name) = &self.name {
            builder = builder.profile_name(name);
        }
        builder.build().region().await.map(|region| region.to_string().trim().to_owned())
    }
}

/// Returns AWS's own files, or those that the environment names. Leaves out a byte order mark at the
/// beginning, because no parser of these files knows it.
fn files() -> EnvConfigFiles {
    let mut builder = EnvConfigFiles::builder();
    for (kind, name, usual) in [
        (EnvConfigFileKind::Config, "AWS_CONFIG_FILE", ".aws/config"),
        (EnvConfigFileKind::Credentials, "AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
    ] {
        let home = directories::BaseDirs::new().map(|base| base.home_dir().to_owned()).unwrap_or_default();
        let path = match variable(name) {
            Some(path) => {
                path.strip_prefix("~/").map_or_else(|| PathBuf::from(&path), |rest| home.join(rest))
            }
            None => home.join(usual),
        };
        let text = std::fs::read_to_string(path).unwrap_or_default();
        builder = match text.strip_prefix(BYTE_ORDER_MARK) {
            Some(rest) => builder.with_contents(kind, rest),
            None if matches!(kind, EnvConfigFileKind::Config) => builder.include_default_config_file(true),
            None => builder.include_default_credentials_file(true),
        };
    }
    builder.build()
}
