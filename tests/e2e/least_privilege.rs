//! Least privilege: keys with just the rights of their role. A pull gets and lists, a push also puts. Neither
//! deletes.

use object_store::ObjectStoreExt;
use object_store::path::Path as Key;

use crate::data::{assert_same_tree, noise};
use crate::s3::{self, Role};
use crate::sandbox::Sandbox;
use crate::scan::Secrets;

#[test]
#[ignore = "needs an S3 server"]
fn a_pull_key_clones_and_is_told_why_it_may_not_push() {
    let sandbox = Sandbox::in_s3(Secrets::in_use());
    let work = sandbox.repository("shared");
    work.publish("a.bin", &noise(1, 700_000));

    let reader = sandbox.other_machine("reader").with_keys(Role::Pull);
    let copy = reader.clone_of(&sandbox.remote("shared"), "copy");
    assert_same_tree(&work.path, &copy.path);
    reader.expect_success(copy.cdc(["status"]));
    reader.expect_success(copy.cdc(["stats"]));
    work.publish("b.bin", &noise(2, 700_000));
    copy.must(["pull", "--quiet"]);
    assert_same_tree(&work.path, &copy.path);

    copy.write("mine.bin", &noise(3, 700_000));
    copy.commit("content");
    let stored = sandbox.store().files();
    let branches = copy.must(["ls-remote", "origin"]);
    let outcome = copy.git(["push", "origin", "HEAD"]);
    reader.expect_failure(outcome, &["denied", "s3:PutObject", &copy.oid("mine.bin"), "cdc/log"]);
    assert_eq!(stored, sandbox.store().files());
    assert_eq!(branches, copy.must(["ls-remote", "origin"]), "the ref was pushed");

    let writer = reader.with_keys(Role::Push).repo_at("copy");
    writer.push();
    assert_same_tree(&writer.path, &sandbox.clone_elsewhere("shared").path);
}

#[test]
#[ignore = "needs an S3 server"]
fn a_push_key_that_may_not_delete_is_enough() {
    let sandbox = Sandbox::in_s3(Secrets::in_use());
    let work = sandbox.repository("pushed");
    for version in 0..3 {
        work.publish("a.bin", &noise(version, 700_000));
    }
    work.must(["lfs", "push", "--all", "origin"]);
    assert_same_tree(&work.path, &sandbox.clone_elsewhere("pushed").path);

    // The machines of the sandbox have this key, and it may really not:
    let location = sandbox.store().location();
    let marker = location.strip_prefix(&format!("s3://{}/", s3::BUCKET)).unwrap();
    let marker = Key::parse(format!("{marker}/store.json")).unwrap();
    let refused = s3::wait(s3::client(Role::Push).delete(&marker));
    let refused = format!("{refused:?}");
    assert!(refused.contains("AccessDenied"), "the key may delete, so this test shows nothing: {refused}");
    assert!(sandbox.store().files().contains_key("store.json"));
}
