//! The bounds of a committed URL: it may send secrets neither elsewhere nor in the clear.

use super::super::*;

fn opened(url: &str, access: &Access) -> Error {
    let url = StoreUrl::parse(url).unwrap();
    Store::open(&url, FilePath::new("/"), access).err().expect("it must not open")
}

#[test]
fn plain_http_to_other_machines_is_refused_before_anything_is_sent() {
    let elsewhere = Access { endpoint: Some("http://203.0.113.7".into()), ..Access::default() };
    for (url, access) in [
        ("s3://team/x?endpoint=http://203.0.113.7:9000", &Access::default()),
        ("s3://team/x", &elsewhere),
        ("gs://team/x", &elsewhere),
        ("az://team/x?account=acme", &elsewhere),
        ("http://203.0.113.7/x", &Access::default()),
    ] {
        let error = opened(url, access);
        assert_eq!(error.kind(), Kind::Denied, "{url}: {error}");
        assert!(error.to_string().contains("lfs-cdc.allowHttp"), "{error}");
    }
}

/// Keys and tokens of Azure would go to the endpoint. So the repository must not choose their account.
#[test]
fn a_committed_account_is_not_used_at_an_endpoint_of_the_users() {
    let access = Access { endpoint: Some("https://127.0.0.1:1".into()), ..Access::default() };
    let error = opened("az://team/x?account=acme", &access);
    assert!(error.to_string().contains("lfs-cdc.account"), "{error}");
}
