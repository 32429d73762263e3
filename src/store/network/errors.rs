//! The errors of a service, explained to the user. An explanation is a message of one line, a remedy, and a
//! judgment if a retry may help.

use std::error::Error as StdError;
use std::time::Duration;

use http::StatusCode;

use super::endpoint;
use super::error_response::Refusal;
use super::wire::Stalled;
use super::{Cloud, Place};
use crate::error::{Error, Kind};

/// Difference of clocks that may explain a refusal. Services refuse signatures that are older than 15
/// minutes.
const CLOCK_SKEW_SECONDS: u64 = 5 * 60;

/// The chance that a failed request succeeds later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Hope {
    None,
    /// The service can't be reached at all. Most likely it stays so.
    Slight,
    Good,
    /// The service takes requests and doesn't answer. Each try costs much time.
    Silent,
    /// The service has said how long to wait.
    After(Duration),
}

/// Returns an error and its causes, the outermost first.
pub(super) fn causes<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

/// Finds the first cause of type `T`.
fn find<'e, T: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e T> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// Returns true if the connection broke or stood still, and the service is not the cause.
pub(in crate::store) fn is_link_failure(error: &object_store::Error) -> bool {
    match find::<Stalled>(error) {
        Some(stalled) => !stalled.is_silence,
        None => find::<reqwest::Error>(error).is_some(),
    }
}

/// Returns true if a write may have been refused because of its condition. Then the service doesn't know such
/// requests. A service that found the name taken is not meant.
pub(in crate::store) fn may_refuse_conditions(error: &object_store::Error) -> bool {
    match error {
        object_store::Error::NotImplemented { .. } => true,
        _ => find::<Refusal>(error).is_some_and(Refusal::may_be_of_a_condition),
    }
}

/// Returns the words of the innermost cause. The errors around it may hold a URL.
pub(in crate::store) fn root(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

impl Place {
    /// Explains why `doing` failed, and returns the chance of a retry. The explanation doesn't count the
    /// tries.
    pub(in crate::store) fn explain(&self, doing: &str, error: &object_store::Error) -> (Error, Hope) {
        let doing = format!("{doing} in the store {}", self.location);
        if let Some(ours) = find::<Error>(error) {
            return (ours.clone().context(doing), Hope::None);
        }
        if let Some(refusal) = find::<Refusal>(error) {
            return self.refused(&doing, refusal);
        }
        if let Some(stalled) = find::<Stalled>(error) {
            let error = Error::new(Kind::Unreachable, format!("{doing}: {stalled}"));
            let hope = if stalled.is_silence { Hope::Silent } else { Hope::Good };
            return (error.remedy("check the network and the service, and try again"), hope);
        }
        if let Some(failed) = find::<reqwest::Error>(error) {
            return self.cut_off(&doing, failed);
        }
        use object_store::Error as E;
        let (kind, why) = match error {
            E::NotFound { .. } => (Kind::NotFound, "it is not there".to_owned()),
            E::AlreadyExists { .. } | E::Precondition { .. } => {
                (Kind::Exists, "the service says that the name is taken, and it isn't".to_owned())
            }
            // a web server that doesn't support ranges
            _ if root(error).contains("Range request not supported") => {
                let error = Error::invalid(format!("{doing}: the web server doesn't answer range requests"));
                return (error.remedy("publish the store by one that does"), Hope::None);
            }
            // Azure's batches report the failure of one delete in words only
            _ if root(error).ends_with("(code: 403)") => (Kind::Denied, "access is denied".to_owned()),
            _ => (Kind::Unreachable, root(error)),
        };
        // if a name is called taken and isn't there, another process may just be writing it
        let hope = if kind == Kind::Exists { Hope::Good } else { Hope::None };
        let error = Error::new(kind, format!("{doing}: {why}"));
        let remedy = "check the service and the settings below lfs-cdc., and try again";
        (if kind == Kind::Unreachable { error.remedy(remedy) } else { error }, hope)
    }

    /// Explains a connection that failed.
    fn cut_off(&self, doing: &str, failed: &reqwest::Error) -> (Error, Hope) {
        let why = root(failed);
        let unreachable = |why: String| Error::new(Kind::Unreachable, format!("{doing}: {why}"));
        if why.contains("certificate") {
            let error = unreachable(format!("the certificate of {} is not trusted: {why}", self.host));
            let remedy = "add the authority to the system's certificates, or name its file in SSL_CERT_FILE";
            return (error.remedy(remedy), Hope::None);
        }
        if failed.is_connect() {
            let error = unreachable(format!("{} can't be reached: {why}", self.host));
            let remedy = "check the network, the endpoint and HTTPS_PROXY, and try again";
            return (error.remedy(remedy), Hope::Slight);
        }
        let why = if failed.is_timeout() { "no answer in time".to_owned() } else { why };
        let error = unreachable(format!("the connection broke: {why}"));
        (error.remedy("check the network, and try again"), Hope::Good)
    }

    /// Explains a refusal of the service.
    fn refused(&self, doing: &str, refusal: &Refusal) -> (Error, Hope) {
        let error = |kind, why: String| Error::new(kind, format!("{doing}: {why}"));
        let hope = match refusal.retry_after {
            _ if !refusal.is_transient() => Hope::None,
            Some(pause) => Hope::After(pause),
            None => Hope::Good,
        };
        let named = self.kind.words();
        let explained = if let Some(origin) = self.untrusted.as_ref().filter(|_| hope == Hope::None) {
            error(Kind::Denied, format!("{} ({refusal})", endpoint::unsigned(origin)))
                .remedy(endpoint::how_to_trust(origin))
        } else if refusal.is_missing_bucket() {
            // not the kind of a missing file, for which there may be another copy
            error(Kind::Unreachable, format!("there is no such {} ({refusal})", named.bucket))
                .remedy(format!("create it, or check its name and {}", named.whereabouts))
        } else if refusal.is_out_of_room() {
            error(Kind::Unreachable, format!("there is no room left ({refusal})"))
                .remedy("raise the quota or free some space, and try again")
        } else if self.is_clock(refusal) {
            let minutes = refusal.clock_is_off.as_secs() / 60;
            error(Kind::Denied, format!("this machine's clock is {minutes} minutes off ({refusal})"))
                .remedy("set the clock, and try again")
        } else if is_expired(refusal) {
            error(Kind::Denied, format!("the credentials have expired ({refusal})")).remedy(named.sign_in)
        } else if let Some(elsewhere) = self.elsewhere(refusal) {
            error(Kind::Invalid, elsewhere).remedy(named.region_remedy)
        } else if refusal.code.starts_with("KMS") {
            error(Kind::Denied, format!("the encryption key can't be used ({refusal})"))
                .remedy("check lfs-cdc.sseKmsKeyId and the key's policy")
        } else if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&refusal.status) {
            self.denied(doing, refusal)
        } else if refusal.is_throttling() {
            error(Kind::Unreachable, format!("the service has too much to do ({refusal})"))
                .remedy("try again later, or set lfs-cdc.concurrency to a small number")
        } else {
            let remedy = match refusal.status.is_client_error() {
                true => "check the settings below lfs-cdc., as storageClass, acl and endpoint",
                false => "try again later",
            };
            error(Kind::Unreachable, refusal.to_string()).remedy(remedy)
        };
        (explained, hope)
    }

    fn is_clock(&self, refusal: &Refusal) -> bool {
        let denied = refusal.status == StatusCode::FORBIDDEN || refusal.status == StatusCode::UNAUTHORIZED;
        let far = refusal.clock_is_off >= Duration::from_secs(CLOCK_SKEW_SECONDS);
        refusal.code == "RequestTimeTooSkewed" || (denied && far && !self.is_anonymous)
    }

    /// Returns the reason if another region or address would be right.
    fn elsewhere(&self, refusal: &Refusal) -> Option<String> {
        let codes = ["PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed"];
        let redirected = refusal.status.is_redirection() || codes.contains(&refusal.code.as_str());
        if !redirected && refusal.code != "IllegalLocationConstraintException" {
            return None;
        }
        Some(match (&refusal.region, self.kind) {
            (Some(region), _) => format!("the bucket is in the region {region} ({refusal})"),
            (None, Cloud::S3) => {
                format!("the bucket is in another region or at another endpoint ({refusal})")
            }
            (None, _) => format!("the service sends us elsewhere ({refusal})"),
        })
    }

    fn denied(&self, doing: &str, refusal: &Refusal) -> Error {
        let named = self.kind.words();
        let wrong = ["InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthenticationFailed"];
        let error = |why: String| Error::new(Kind::Denied, format!("{doing}: {why}"));
        if self.is_anonymous && self.kind != Cloud::Web {
            return error(format!("access is denied, and no credentials were found ({refusal})"))
                .remedy(named.credentials);
        }
        if wrong.contains(&refusal.code.as_str()) || refusal.status == StatusCode::UNAUTHORIZED {
            return error(format!("the credentials are wrong ({refusal})")).remedy(named.credentials);
        }
        error(format!("access is denied ({refusal})")).remedy(named.rights)
    }
}

/// Returns true if temporary credentials have expired.
fn is_expired(refusal: &Refusal) -> bool {
    let codes = ["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"];
    codes.contains(&refusal.code.as_str())
        || refusal.message.contains("token has expired")
        || refusal.message.contains("Signature not valid in the specified time frame")
}

/// The terms and remedies of a cloud, for messages.
pub(super) struct Words {
    pub bucket: &'static str,
    pub whereabouts: &'static str,
    pub credentials: &'static str,
    pub sign_in: &'static str,
    pub rights: &'static str,
    pub region_remedy: &'static str,
}

impl Cloud {
    pub(super) fn words(self) -> Words {
        match self {
            Self::S3 => Words {
                bucket: "bucket",
                whereabouts: "the endpoint",
                credentials: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE or lfs-cdc.profile",
                sign_in: "get new ones: `aws sso login`, or whatever made these",
                rights: "pulling needs s3:GetObject and s3:ListBucket, pushing s3:PutObject too, on this bucket \
                         and prefix",
                region_remedy: "set the region in the URL (?region=…), in lfs-cdc.region or AWS_REGION, and the \
                                endpoint where it is not AWS",
            },
            Self::Google => Words {
                bucket: "bucket",
                whereabouts: "the project",
                credentials: "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
                sign_in: "run `gcloud auth application-default login` again",
                rights: "pulling needs roles/storage.objectViewer, pushing roles/storage.objectCreator too",
                region_remedy: "check the bucket's name, and lfs-cdc.endpoint if it is set",
            },
            Self::Azure => Words {
                bucket: "container",
                whereabouts: "the storage account",
                credentials: "run `az login`, or set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
                sign_in: "run `az login` again, or renew the SAS token",
                rights: "pulling needs the role Storage Blob Data Reader, pushing Storage Blob Data Contributor",
                region_remedy: "check the account's name, and lfs-cdc.endpoint if it is set",
            },
            Self::Web => Words {
                bucket: "site",
                whereabouts: "the host",
                credentials: "the web server must let everybody read; use the bucket's own URL for a private store",
                sign_in: "the web server must let everybody read",
                rights: "the web server must let everybody read; use the bucket's own URL for a private store",
                region_remedy: "use the address that the server sends us to",
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use object_store::client::{HttpError, HttpErrorKind};

    use super::*;

    fn explained(place: &Place, refusal: Refusal) -> (Error, Hope) {
        let source = Box::new(HttpError::new(HttpErrorKind::Unknown, refusal));
        place.explain("writing x", &object_store::Error::Generic { store: "S3", source })
    }

    fn refusal(status: u16, code: &str) -> Refusal {
        Refusal {
            status: StatusCode::from_u16(status).unwrap(),
            code: code.into(),
            message: String::new(),
            region: None,
            retry_after: None,
            clock_is_off: Duration::ZERO,
        }
    }

    #[test]
    fn each_refusal_has_a_message_and_a_remedy_of_its_own() {
        let place = Place::nowhere();
        for (status, code, kind, words, remedy) in [
            (403, "AccessDenied", Kind::Denied, "access is denied", "s3:PutObject"),
            (403, "InvalidAccessKeyId", Kind::Denied, "credentials are wrong", "AWS_ACCESS_KEY_ID"),
            (403, "SignatureDoesNotMatch", Kind::Denied, "credentials are wrong", "AWS_PROFILE"),
            (400, "ExpiredToken", Kind::Denied, "have expired", "aws sso login"),
            (403, "RequestTimeTooSkewed", Kind::Denied, "clock", "set the clock"),
            (404, "NoSuchBucket", Kind::Unreachable, "no such bucket", "create it"),
            (301, "PermanentRedirect", Kind::Invalid, "another region", "?region="),
            (400, "AuthorizationHeaderMalformed", Kind::Invalid, "another region", "AWS_REGION"),
            (507, "", Kind::Unreachable, "no room", "quota"),
            (403, "QuotaExceeded", Kind::Unreachable, "no room", "quota"),
            (503, "SlowDown", Kind::Unreachable, "too much to do", "lfs-cdc.concurrency"),
            (400, "KMS.DisabledException", Kind::Denied, "encryption key", "lfs-cdc.sseKmsKeyId"),
        ] {
            let (error, hope) = explained(&place, refusal(status, code));
            let text = error.to_string();
            assert_eq!(error.kind(), kind, "{code}: {text}");
            let (message, advice) = text.split_once("; ").expect("there is a remedy");
            assert!(message.contains(words) && advice.contains(remedy), "{code}: {text}");
            assert_eq!(hope == Hope::Good, status == 503, "{code}: {hope:?}");
        }
    }

    #[test]
    fn a_region_and_a_clock_are_named() {
        let place = Place::nowhere();
        let elsewhere = Refusal { region: Some("eu-west-3".into()), ..refusal(301, "") };
        assert!(explained(&place, elsewhere).0.to_string().contains("eu-west-3"));
        let late = Refusal { clock_is_off: Duration::from_secs(3600), ..refusal(403, "AccessDenied") };
        assert!(explained(&place, late).0.to_string().contains("60 minutes off"));
    }

    #[test]
    fn who_has_no_credentials_is_told_so() {
        let place = Place { is_anonymous: true, ..Place::nowhere() };
        let text = explained(&place, refusal(403, "AccessDenied")).0.to_string();
        assert!(text.contains("no credentials were found") && text.contains("AWS_ACCESS_KEY_ID"), "{text}");
    }

    #[test]
    fn a_part_of_a_batch_that_is_denied_is_recognised() {
        let source = "Bulk delete request failed for key a: No permission (code: 403)".into();
        let error = object_store::Error::Generic { store: "MicrosoftAzure", source };
        let (error, hope) = Place::nowhere().explain("deleting a", &error);
        assert_eq!((error.kind(), hope), (Kind::Denied, Hope::None), "{error}");
    }

    #[test]
    fn a_pause_that_the_service_asks_for_is_kept() {
        let pause = Duration::from_secs(7);
        let busy = Refusal { retry_after: Some(pause), ..refusal(429, "") };
        assert_eq!(explained(&Place::nowhere(), busy).1, Hope::After(pause));
        let denied = Refusal { retry_after: Some(pause), ..refusal(403, "AccessDenied") };
        assert_eq!(explained(&Place::nowhere(), denied).1, Hope::None);
    }
}
