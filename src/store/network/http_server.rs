//! The store on any web server. It can only be read, and readers find its index by `index/manifest`.

use std::sync::Arc;

use object_store::http::HttpBuilder;
use object_store::path::Path;

use super::wire::{Redirects, Wire};
use super::{Opened, endpoint, misconfigured, no_retries};
use crate::error::Result;
use crate::store::options::{Access, ChosenBy};

pub(super) fn open(url: &str, access: &Access) -> Result<Opened> {
    let checked = endpoint::check(url, access.allow_http)?;
    if access.chosen_by == ChosenBy::Repository {
        endpoint::refuse_inside_cloud(&checked)?;
    }
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
        is_untrusted: false,
    })
}
