//! The proxies that the environment names.

use reqwest::ClientBuilder;

use crate::error::{Error, Result};

/// The variables that `reqwest` reads. Of each pair, the first that is set counts, even if it is empty.
const VARIABLES: [[&str; 2]; 3] =
    [["HTTPS_PROXY", "https_proxy"], ["HTTP_PROXY", "http_proxy"], ["ALL_PROXY", "all_proxy"]];
const SCHEMES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];

/// Fails if a proxy can't be used, because requests would go past it without a message.
pub(super) fn check() -> Result<()> {
    for names in VARIABLES {
        if let Some((name, text)) = first_set(&names)
            && let Err(why) = check_proxy(&text)
        {
            // not shown, because it may hold a password
            return Err(Error::invalid(format!("{name} can't be used: {why}")).remedy(
                "set it to http://host:port, https://host:port or socks5h://host:port, or unset it",
            ));
        }
    }
    Ok(())
}

fn first_set(names: &[&'static str]) -> Option<(&'static str, String)> {
    names.iter().find_map(|name| Some((*name, std::env::var(name).ok()?)))
}

fn check_proxy(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let uri: http::Uri = text.parse().map_err(|_| {
        let is_padded = text.trim().len() < text.len();
        if is_padded { "it has a line end or a space around it" } else { "it is no URL" }.to_owned()
    })?;
    match uri.scheme_str() {
        _ if uri.authority().is_none() => Err("it names no host".to_owned()),
        Some(scheme) if !SCHEMES.contains(&scheme) => Err(format!("{scheme}:// is not a kind of proxy")),
        _ => Ok(()),
    }
}

/// Makes a client use the proxies of the environment, or the system's if the environment names none.
pub(super) fn obey(builder: ClientBuilder) -> ClientBuilder {
    // `reqwest` takes `*` for all names, but not for addresses
    match first_set(&["NO_PROXY", "no_proxy"]) {
        Some((_, names)) if names.split(',').any(|name| name.trim() == "*") => builder.no_proxy(),
        _ => builder,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_would_be_passed_over_is_named_without_its_password() {
        for text in
            ["", "http://me:hunter2@proxy:3128", "proxy:3128", "socks5h://127.0.0.1:1080", "https://proxy/"]
        {
            assert!(check_proxy(text).is_ok(), "{text}");
        }
        for text in [
            "http://me:hunter2@proxy:3128\n",
            " http://proxy",
            "ftp://me:hunter2@proxy",
            "http:///",
            "/proxy",
        ] {
            let why = check_proxy(text).unwrap_err();
            assert!(!why.contains("hunter2"), "{why}");
        }
    }
}
