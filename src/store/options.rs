//! How a store on a network is reached, as far as the user's own configuration says so.

use std::time::Duration;

use crate::limit;

/// Who has chosen the URL of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChosenBy {
    /// This user, on the command line or in git's configuration.
    User,
    /// Whoever wrote the repository, in `.lfsconfig`.
    #[default]
    Repository,
}

/// What a command is about to do with a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Intent {
    /// Read only.
    #[default]
    Read,
    /// Write, and perhaps delete.
    Write,
}

/// Settings that a committed URL has no say in, or less than these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Who has chosen the store's URL.
    pub chosen_by: ChosenBy,
    /// What the store is opened for.
    pub intent: Intent,
    /// Endpoints that this user trusts with signed requests, whoever has chosen the URL.
    pub trusted_endpoints: Vec<String>,
    /// Region of an S3 bucket.
    pub region: Option<String>,
    /// Where the service is, if not where its cloud has it: an `http(s)://` URL.
    pub endpoint: Option<String>,
    /// Whether an S3 bucket's name stands in the path rather than in the host's name.
    pub path_style: Option<bool>,
    /// Name of an Azure storage account.
    pub account: Option<String>,
    /// Profile in the AWS configuration files.
    pub profile: Option<String>,
    /// Requests at a time; otherwise adapted to what the service bears.
    pub concurrency: Option<usize>,
    /// Whether plain HTTP may be spoken with other machines.
    pub allow_http: bool,
    /// How long a request that fails is tried again.
    pub retry_time: Duration,
    /// How long a transfer may stand still, if not a part of `retry_time`.
    pub stall_time: Option<Duration>,
    /// AWS KMS key that encrypts what is stored.
    pub sse_kms_key_id: Option<String>,
    /// Storage class of what is stored (S3 and Google).
    pub storage_class: Option<String>,
    /// Canned ACL of what is stored (S3).
    pub acl: Option<String>,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            chosen_by: ChosenBy::default(),
            intent: Intent::default(),
            trusted_endpoints: Vec::new(),
            region: None,
            endpoint: None,
            path_style: None,
            account: None,
            profile: None,
            concurrency: None,
            allow_http: false,
            retry_time: Duration::from_secs(limit::RETRY_SECONDS),
            stall_time: None,
            sse_kms_key_id: None,
            storage_class: None,
            acl: None,
        }
    }
}

impl Access {
    /// A transfer is given up as stalled when so little moves within this time.
    pub(super) fn stall_window(&self) -> Duration {
        let part = self.retry_time / 4;
        let part = part.clamp(Duration::from_secs(1), Duration::from_secs(limit::STALL_SECONDS));
        self.stall_time.unwrap_or(part)
    }
}
