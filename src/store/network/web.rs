//! A store on any web server: read only, and its index is found by `index/manifest`.

use std::sync::Arc;

use object_store::http::HttpBuilder;
use object_store::path::Path;

use super::wire::{Redirects, Wire};
use super::{Opened, check_endpoint, misconfigured, no_retries};
use crate::error::Result;
use crate::store::access::Access;

pub(super) fn open(url: &str, access: &Access) -> Result<Opened> {
    let checked = check_endpoint(url, access.allow_http)?;
    let store = HttpBuilder::new()
        .with_url(url)
        .with_retry(no_retries())
        .with_http_connector(Wire::new(access, Redirects::Follow)?)
        .build()
        .map_err(misconfigured)?;
    Ok(Opened {
        objects: Arc::new(store),
        parts: None,
        prefix: Path::default(),
        endpoint: None,
        host: checked.host_str().unwrap_or_default().to_owned(),
        is_anonymous: true,
    })
}
