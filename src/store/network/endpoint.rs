//! The endpoint of a service: the check of its address, the user's trust in it, and the signing of requests.
//!
//! A signature is no secret, but a request that carries one can be relayed. Some services check the signature
//! against the request's own `Host`. They obey the request, no matter which machine sends it. So requests are
//! signed only for an endpoint that this user has named.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

use crate::error::{Error, Kind, Result};
use crate::store::options::{Access, ChosenBy, Intent};

const FORM: &str = "the form is https://host or https://host:port";
/// The names of metadata services in clouds, beside link-local addresses.
const METADATA_NAMES: &[&str] =
    &["metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"];
/// The address of AWS's metadata service by IPv6, and those of Alibaba's and Azure's by IPv4.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];

/// Checks an address that requests are to go to: HTTPS, or plain HTTP on this machine or where the user
/// allows it.
pub(in crate::store) fn check(text: &str, allow_http: bool) -> Result<Url> {
    let wrong = |why: &str| Error::invalid(format!("{text:?} can't be an endpoint: {why}")).remedy(FORM);
    let url = Url::parse(text).map_err(|e| wrong(&e.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        // not shown, because it holds a secret
        return Err(Error::invalid("an endpoint with a name or password in it").remedy("leave these out"));
    }
    if !url.host_str().is_some_and(|host| address(&url).is_some() || is_host_name(host)) {
        return Err(wrong("it names no host"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it has a part behind ? or #"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if allow_http || is_loopback(&url) => Ok(url),
        "http" => {
            Err(Error::new(Kind::Denied, format!("{text} is plain HTTP: anybody on the way can read along"))
                .remedy("use https://, or allow it on this machine: git config lfs-cdc.allowHttp true"))
        }
        _ => Err(wrong("it is neither https:// nor http://")),
    }
}
/// Checks an endpoint that the store's URL names. The bool is true if this user has named it too. The user
/// names it by giving the whole URL, in `lfs-cdc.trustedEndpoint`, or as one of `named`. AWS's own endpoints
/// count as named. Fails for all others if the command is to write. Also fails if they lead inside a cloud,
/// or are plain HTTP to another machine.
pub(in crate::store) fn check_committed(
    text: &str,
    access: &Access,
    named: &[String],
) -> Result<(Url, bool)> {
    let url = check(text, true)?;
    if let Some(wrong) = access.trusted_endpoints.iter().find(|other| check(other, true).is_err()) {
        return Err(Error::invalid(format!("lfs-cdc.trustedEndpoint is {wrong:?}")).remedy(FORM));
    }
    let is_named = named.iter().chain(&access.trusted_endpoints).any(|other| is_same_origin(text, other));
    if is_named || access.chosen_by == ChosenBy::User || is_of_aws(&url) {
        return Ok((check(text, access.allow_http)?, true));
    }
    refuse_inside_cloud(&url)?;
    let origin = origin(&url);
    if url.scheme() == "http" && !is_loopback(&url) {
        // the user allows plain HTTP for their own services only
        let why = format!("{origin} is plain HTTP to another machine, and only the repository names it");
        let also = if access.allow_http { "" } else { "; plain HTTP takes lfs-cdc.allowHttp too" };
        return Err(Error::new(Kind::Denied, why).remedy(format!("{}{also}", how_to_trust(&origin))));
    }
    match access.intent {
        Intent::Read => Ok((url, false)),
        Intent::Write => Err(not_written(&origin)),
    }
}

/// Fails for an address that only serves to reach the inside of this machine's cloud.
pub(in crate::store) fn refuse_inside_cloud(url: &Url) -> Result<()> {
    if !is_inside_cloud(url) {
        return Ok(());
    }
    let why = format!("{} is an address inside a machine or its cloud", origin(url));
    Err(Error::new(Kind::Denied, why).remedy("a repository may not name it; correct its URL"))
}

/// Returns scheme, host and port, in the form of `lfs-cdc.trustedEndpoint`.
pub(in crate::store) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Returns the origin of an endpoint, unless it is one of AWS's own.
pub(in crate::store) fn foreign_origin(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    (!is_of_aws(&url)).then(|| origin(&url))
}

/// Returns true if both are URLs with the same scheme, host and port.
pub(in crate::store) fn is_same_origin(one: &str, other: &str) -> bool {
    match (Url::parse(one.trim()), Url::parse(other.trim())) {
        // the origin of a URL without a host equals no other
        (Ok(one), Ok(other)) => one.origin() == other.origin(),
        _ => false,
    }
}

/// Returns the remedy by which the user names an endpoint. The origin holds no characters that a shell would
/// take for something else.
pub(in crate::store) fn how_to_trust(origin: &str) -> String {
    format!(
        "if it is your team's service, run `git config --global --add lfs-cdc.trustedEndpoint '{origin}'` and try again"
    )
}

/// Returns the error that nothing is written to an endpoint that only the repository names.
pub(in crate::store) fn not_written(origin: &str) -> Error {
    Error::new(Kind::Denied, format!("nothing is written to {origin}, because only the repository names it"))
        .remedy(how_to_trust(origin))
}

/// Returns the reason why requests to such an endpoint go unsigned.
pub(in crate::store) fn unsigned(origin: &str) -> String {
    format!("requests to {origin} go unsigned, because only the repository names it")
}

/// Returns true for S3's own addresses: regional, dual-stack, FIPS, accelerated, or an interface endpoint of
/// S3. Other names below `amazonaws.com` (load balancers, machines, API gateways) may belong to anybody.
pub(in crate::store) fn is_of_aws(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let Some(name) = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))
    else {
        return false;
    };
    let is_s3 = match name.split('.').collect::<Vec<_>>()[..] {
        ["s3" | "s3-accelerate" | "s3-external-1"] | ["s3-accelerate", "dualstack"] => true,
        [old] => old.strip_prefix("s3-").is_some_and(is_region_of_aws),
        ["s3" | "s3-fips", region] | ["s3" | "s3-fips", "dualstack", region] => is_region_of_aws(region),
        ["bucket" | "accesspoint", interface, "s3", region, "vpce"] => {
            interface.starts_with("vpce-") && is_region_of_aws(region)
        }
        _ => false,
    };
    is_s3 && url.scheme() == "https" && url.port().is_none()
}

/// Returns true if the text has the form of a region, for example `eu-central-1`.
fn is_region_of_aws(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let is_word = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase());
    let [area, words @ .., number] = &parts[..] else { return false };
    area.len() == 2
        && is_word(area)
        && (1..=3).contains(&words.len())
        && words.iter().all(is_word)
        && (1..=2).contains(&number.len())
        && number.chars().all(|c| c.is_ascii_digit())
}

/// Returns the IP address that stands in place of a host's name.
fn address(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// Returns true if the name has only letters, digits, hyphens, underscores and dots. The name stands in
/// messages, and in commands that users paste.
fn is_host_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

fn is_loopback(url: &Url) -> bool {
    match address(url) {
        Some(address) => address.is_loopback(),
        None => url.host_str().map(|host| host.trim_end_matches('.')) == Some("localhost"),
    }
}

/// Returns true if the URL leads to an address that only this machine or its cloud has. No store stands
/// there.
pub(in crate::store) fn is_inside_cloud(url: &Url) -> bool {
    match address(url) {
        Some(IpAddr::V4(address)) => {
            address.is_link_local() || address.is_unspecified() || METADATA_V4.contains(&address)
        }
        Some(IpAddr::V6(address)) => {
            address.is_unicast_link_local() || address.is_unspecified() || address == METADATA_V6
        }
        None => METADATA_NAMES.contains(&url.host_str().unwrap_or_default().trim_end_matches('.')),
    }
}

/// Returns true if the URL leads into this machine or its network, as far as the name shows.
pub(in crate::store) fn is_local(url: &Url) -> bool {
    let is_private = match address(url) {
        Some(IpAddr::V4(address)) => address.is_private(),
        Some(IpAddr::V6(address)) => address.is_unique_local(),
        None => url.host_str().unwrap_or_default().trim_end_matches('.').ends_with(".localhost"),
    };
    is_private || is_loopback(url) || is_inside_cloud(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_unless_it_is_allowed() {
        for endpoint in
            ["https://s3.example.com", "http://localhost:9000", "http://127.0.0.9", "http://[::1]:80/x"]
        {
            assert!(check(endpoint, false).is_ok(), "{endpoint}");
        }
        for endpoint in
            ["http://10.0.0.1:9000", "http://localhost.example.com", "http://127.0.0.1.example.com"]
        {
            let error = check(endpoint, false).unwrap_err();
            assert!(
                error.kind() == Kind::Denied && error.to_string().contains("lfs-cdc.allowHttp"),
                "{error}"
            );
            assert!(check(endpoint, true).is_ok(), "{endpoint}");
        }
        for endpoint in ["s3.example.com", "ftp://a", "https://", "https://me:hunter2@a"] {
            let error = check(endpoint, true).unwrap_err();
            assert!(error.kind() == Kind::Invalid && !error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn only_the_names_of_s3_itself_are_aws_own() {
        let is_of_aws = |host: &str| super::is_of_aws(&Url::parse(host).unwrap());
        for host in [
            "https://s3.amazonaws.com",
            "https://s3.eu-central-1.amazonaws.com/",
            "https://s3-us-west-2.amazonaws.com",
            "https://s3.dualstack.us-gov-west-1.amazonaws.com",
            "https://s3-fips.dualstack.us-east-1.amazonaws.com:443",
            "https://s3-accelerate.dualstack.amazonaws.com",
            "https://s3.cn-north-1.amazonaws.com.cn",
            "https://bucket.vpce-1a2b3c4d-5e6f.s3.us-east-1.vpce.amazonaws.com",
        ] {
            assert!(is_of_aws(host), "{host}");
        }
        for host in [
            "http://s3.amazonaws.com",
            "https://s3.amazonaws.com:8443",
            "https://s3.eu-central-1.amazonaws.com.evil.example",
            "https://s3.evil.amazonaws.com.evil.example",
            "https://evils3.amazonaws.com",
            "https://evil-1234.us-east-1.elb.amazonaws.com",
            "https://abc123.execute-api.us-east-1.amazonaws.com",
            "https://ec2-203-0-113-7.compute-1.amazonaws.com",
            "https://s3-website-us-east-1.amazonaws.com",
            "https://evil.s3-object-lambda.us-east-1.amazonaws.com",
            "https://vpce-1-2.vpce-svc-3.us-east-1.vpce.amazonaws.com",
            "https://amazonaws.com",
        ] {
            assert!(!is_of_aws(host), "{host}");
        }
    }

    #[test]
    fn an_endpoint_is_signed_for_when_the_user_has_named_its_origin() {
        const COMMITTED: &str = "https://s3.example.com/";
        let trusted = |named: &[&str], access: &Access| {
            let named: Vec<String> = named.iter().map(ToString::to_string).collect();
            check_committed(COMMITTED, access, &named).unwrap().1
        };
        let of_repository = Access::default();
        assert!(!trusted(&[], &of_repository));
        for other in
            ["http://s3.example.com", "https://s3.example.com:444", "https://example.com", "s3.example.com"]
        {
            assert!(!trusted(&[other], &of_repository), "{other}");
        }
        assert!(trusted(&["https://S3.example.com:443/any"], &of_repository));
        let listed = Access { trusted_endpoints: vec!["https://s3.example.com".into()], ..Access::default() };
        assert!(trusted(&[], &listed));
        assert!(trusted(&[], &Access { chosen_by: ChosenBy::User, ..Access::default() }));

        let writing = Access { intent: Intent::Write, ..Access::default() };
        let error = check_committed(COMMITTED, &writing, &[]).unwrap_err().to_string();
        assert!(error.contains("lfs-cdc.trustedEndpoint 'https://s3.example.com'"), "{error}");
        let misspelt = Access { trusted_endpoints: vec!["s3.example.com".into()], ..Access::default() };
        let error = check_committed(COMMITTED, &misspelt, &[]).unwrap_err().to_string();
        assert!(error.contains("lfs-cdc.trustedEndpoint is \"s3.example.com\""), "{error}");
    }

    #[test]
    fn what_leads_inside_is_told_from_what_leads_out() {
        for (url, is_cloud, is_own) in [
            ("http://169.254.169.254/latest", true, true),
            ("http://2852039166/", true, true),
            ("http://[::ffff:169.254.169.254]/", true, true),
            ("http://[fe80::1]/", true, true),
            ("http://[fd00:ec2::254]/", true, true),
            ("http://metadata.google.internal./", true, true),
            ("http://0.0.0.0/", true, true),
            ("http://127.0.0.1:9000/", false, true),
            ("http://localhost/", false, true),
            ("http://x.localhost/", false, true),
            ("http://[::1]/", false, true),
            ("http://192.168.1.1/", false, true),
            ("http://[fd12::1]/", false, true),
            ("https://cdn.example.com/", false, false),
            ("http://203.0.113.7/", false, false),
        ] {
            let parsed = Url::parse(url).unwrap();
            assert_eq!((is_inside_cloud(&parsed), is_local(&parsed)), (is_cloud, is_own), "{url}");
        }
    }

    #[test]
    fn a_host_has_nothing_in_its_name_that_a_shell_would_read() {
        for text in
            ["https://a$(x)b", "https://a`x`", "https://a;b", "https://a'b", "https://h/?x", "https://h/#x"]
        {
            assert!(check(text, true).is_err(), "{text}");
        }
    }
}
