//! The options for access to a store on a network, from the user's own configuration.

use std::time::Duration;

/// Time for which a failed request to a service is tried again, unless the user sets another one.
const RETRY_SECONDS: u64 = 120;
/// Time over which a transfer must not be slower than 512 bytes a second; otherwise it is given up.
const STALL_SECONDS: u64 = 30;

/// The person that has chosen the URL of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChosenBy {
    /// This user, on the command line or in git's configuration.
    User,
    /// The author of the repository, in `.lfsconfig`.
    #[default]
    Repository,
}

/// The purpose for which a command opens a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Intent {
    /// Read only.
    #[default]
    Read,
    /// Write, and perhaps delete.
    Write,
}

/// The user's settings. A committed URL can't change them, or they take precedence over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The person that has chosen the store's URL.
    pub chosen_by: ChosenBy,
    /// The purpose for which the store is opened.
    pub intent: Intent,
    /// Endpoints to which this user allows signed requests, even if the repository has chosen the URL.
    pub trusted_endpoints: Vec<String>,
    /// The region of an S3 bucket.
    pub region: Option<String>,
    /// The endpoint of the service, if it isn't the cloud's own: an `http(s)://` URL.
    pub endpoint: Option<String>,
    /// True if an S3 bucket's name stands in the path rather than in the host's name.
    pub path_style: Option<bool>,
    /// The name of an Azure storage account.
    pub account: Option<String>,
    /// The profile in the AWS configuration files.
    pub profile: Option<String>,
    /// The number of requests at a time. With none, the number adapts to the service.
    pub concurrency: Option<usize>,
    /// True if plain HTTP to other machines is allowed.
    pub allow_http: bool,
    /// The time for which a failing request is tried again.
    pub retry_time: Duration,
    /// The time for which a transfer may stand still. With none, this is a part of `retry_time`.
    pub stall_time: Option<Duration>,
    /// The AWS KMS key that encrypts stored objects.
    pub sse_kms_key_id: Option<String>,
    /// The storage class of stored objects (S3 and Google).
    pub storage_class: Option<String>,
    /// The canned ACL of stored objects (S3).
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
            retry_time: Duration::from_secs(RETRY_SECONDS),
            stall_time: None,
            sse_kms_key_id: None,
            storage_class: None,
            acl: None,
        }
    }
}

impl Access {
    /// Returns the length of the window for stalls. A transfer is given up if too little moves within it.
    pub(super) fn stall_window(&self) -> Duration {
        let part = self.retry_time / 4;
        let part = part.clamp(Duration::from_secs(1), Duration::from_secs(STALL_SECONDS));
        self.stall_time.unwrap_or(part)
    }
}
