//! Conditional writes that a service refuses: a store that was made with them goes on without them.

use super::scene::Scene;
use crate::data::assert_same_tree;
use crate::proxy::{Answer, Fault, Thing};
use crate::s3::Role;

fn refusals() -> [Answer; 4] {
    [
        Answer::s3(
            501,
            "NotImplemented",
            "A header you provided implies functionality that is not implemented.",
        ),
        Answer::s3(400, "InvalidArgument", "If-None-Match is not supported."),
        // as if each name were taken, or just being written
        Answer::s3(412, "PreconditionFailed", "At least one of the pre-conditions did not hold."),
        Answer::s3(409, "OperationAborted", "A conflicting conditional operation is in progress."),
    ]
}

#[test]
#[ignore = "needs an S3 server"]
fn a_service_that_refuses_conditions_is_written_to_without() {
    for answer in refusals() {
        let scene = Scene::new();
        let refused = scene.proxy.whenever(|request| request.only_new, Fault::Refuse(answer));
        scene.add("large.bin", 9_000_000);
        scene.add("small.bin", 3_000);
        scene.proxy.take_record();
        scene.push();
        let asked = refused.count();
        assert!((1..=12).contains(&asked), "asked {asked} times in vain");
        let log = std::fs::read_to_string(scene.work.file(".git/lfs/cdc/log")).unwrap();
        assert_eq!(log.matches("refuses conditional writes").count(), 1, "{log}");
        let record = scene.proxy.take_record();
        assert!(
            record.iter().all(|e| e.request.verb != "DELETE" && !e.is("PUT", Thing::StoreJson)),
            "{record:?}"
        );
        let (outcome, copy) = scene.try_clone();
        copy.machine.expect_success(outcome);
        assert_same_tree(&scene.work.path, &copy.path);

        // `status --probe` finds it, `init` mends it, and all is well again
        let machine = &scene.work.machine;
        let words = ["doesn't honour conditional writes", "git lfs-cdc init"];
        machine.expect_failure(scene.work.cdc(["status", "--probe"]), &words);
        let id = || {
            let status = machine.expect_success(scene.work.cdc(["status", "--json"])).stdout;
            status.lines().find(|line| line.contains("\"store_id\": \"")).map(str::to_owned)
        };
        let before = id();
        scene.work.init(&scene.url);
        machine.expect_success(scene.work.cdc(["status", "--probe"]));
        assert!(before.is_some() && before == id(), "another store: {before:?}, {:?}", id());
        scene.proxy.take_record();
        let asked = refused.count();
        scene.add("more.bin", 3_000);
        scene.push();
        assert_eq!(refused.count(), asked, "asked again");
        scene.everything_is_there();
    }
}

/// A new store at such a service, for each wording of the refusal.
#[test]
#[ignore = "needs an S3 server"]
fn init_at_a_service_that_refuses_conditions() {
    for answer in refusals() {
        let scene = Scene::before_init();
        scene.proxy.whenever(|request| request.only_new, Fault::Refuse(answer));
        scene.work.init(&scene.url);
        scene.proxy.take_record();
        scene.work.commit("set up");
        scene.add("a.bin", 3_000);
        scene.push();
        scene.everything_is_there();
    }
}

/// A user with a key that only reads joins a store as before, and changes nothing.
#[test]
#[ignore = "needs an S3 server"]
fn a_key_that_may_not_write_joins_as_before() {
    let scene = Scene::new();
    let (machine, home) = scene.fresh_machine();
    let reader = machine.with_keys(Role::Pull);
    reader.must(&home, ["init", "--quiet", "mine"]);
    scene.proxy.take_record();
    reader.expect_success(reader.cdc(&home.join("mine"), ["init", &scene.url]));
    let record = scene.proxy.take_record();
    assert!(!record.iter().any(|exchange| exchange.stored()), "{record:?}");
}
