//! Other services: the same faults before Azure's Blob Storage and before a web server, which have other
//! answers.

use std::path::Path;

use super::scene::{Place, Scene, side_by_side};
use crate::data::{assert_same_tree, noise};
use crate::proxy::{Answer, Fault, Proxy, Thing};
use crate::repo::Repo;
use crate::sandbox::{Sandbox, path_str};
use crate::scan::Secrets;
use crate::servers::Web;
use crate::storage::Kind;

const AZURE: [Place; 6] = [
    ("GET", Thing::StoreJson),
    ("LIST", Thing::Segment),
    ("PUT", Thing::Block),
    ("PUT", Thing::Shard),
    ("PUT", Thing::Segment),
    ("LIST", Thing::Condemned),
];

fn busy() -> Answer {
    Answer::s3(503, "ServerBusy", "The server is currently unable to receive requests.")
}

#[test]
#[ignore = "needs a server of Azure Blob Storage"]
fn pushes_to_azure_survive() {
    let faults = [
        Fault::ResetBefore,
        Fault::LoseAnswer,
        Fault::Refuse(busy()),
        Fault::Replace(Answer::s3(500, "OperationTimedOut", "The operation could not be completed in time.")),
        Fault::Replace(Answer::s3(409, "BlobAlreadyExists", "The specified blob already exists.")),
    ];
    side_by_side(&faults, |fault| {
        let scene = Scene::in_azure();
        let is_taken = format!("{fault:?}").contains("409");
        for (number, place) in AZURE.into_iter().enumerate() {
            // only a write can find its name taken
            if is_taken && place.0 != "PUT" {
                continue;
            }
            scene.add(&format!("{number}.bin"), 200_000);
            let hits = scene.proxy.on(place.0, place.1, 1, fault.clone());
            scene.push_survives(&format!("{fault:?} in {place:?}"), &hits);
        }
        scene.everything_is_there();
    });
}

#[test]
#[ignore = "needs a server of Azure Blob Storage"]
fn clones_from_azure_survive() {
    let scene = Scene::in_azure();
    scene.add("a.bin", 3_000_000);
    scene.push();
    for place in
        [("GET", Thing::StoreJson), ("LIST", Thing::Segment), ("GET", Thing::Segment), ("GET", Thing::Block)]
    {
        for fault in [Fault::ResetBefore, Fault::CloseInAnswer, Fault::Refuse(busy())] {
            let hits = scene.proxy.on(place.0, place.1, 2, fault.clone());
            scene.clone_survives(&format!("{fault:?} in {place:?}"), &hits);
        }
    }
    let hits = scene.proxy.on("GET", Thing::Block, 1, Fault::FlipBit);
    scene.clone_survives("a wrong bit", &hits);
}

#[test]
#[ignore = "needs a server of Azure Blob Storage"]
fn azure_refuses() {
    let scene = Scene::in_azure();
    scene.add("a.bin", 200_000);
    for (answer, expected) in [
        (
            Answer::s3(403, "AuthorizationPermissionMismatch", "This request is not authorized."),
            ["access is denied", "Storage Blob Data Contributor"],
        ),
        (
            Answer::s3(403, "AuthenticationFailed", "Signature not valid in the specified time frame"),
            ["expired", "renew the SAS token"],
        ),
        (
            Answer::s3(403, "AuthenticationFailed", "Server failed to authenticate the request."),
            ["credentials are wrong", "az login"],
        ),
        (
            Answer::s3(404, "ContainerNotFound", "The specified container does not exist."),
            ["no such container", "create it"],
        ),
    ] {
        for place in [("LIST", Thing::Segment), ("PUT", Thing::Block)] {
            let what = format!("{answer:?} in {place:?}");
            let hits = scene.proxy.on(place.0, place.1, usize::MAX, Fault::Refuse(answer.clone()));
            let outcome = scene.try_push();
            scene.says(&what, &outcome, &[expected[0], expected[1], "az://lfs/"]);
            assert_eq!(hits.count(), 1, "{what}: tried again");
            scene.proxy.heal();
        }
    }
    scene.push();
    scene.everything_is_there();
}

/// Clones `work` on a fresh machine that reads the store's folder over HTTP.
fn clone_over_http(sandbox: &Sandbox, label: &str, url: &str) -> Repo {
    let machine = sandbox.other_machine(label);
    let home = sandbox.path(label);
    for (name, value) in [("lfs.url", format!("cdc::{url}").as_str()), ("lfs-cdc.retryTime", "6")] {
        machine.must(&home, ["config", "--global", name, value]);
    }
    machine.must(&home, ["config", "--global", "lfs.concurrentTransfers", "1"]);
    machine.clone_of(&sandbox.remote("work"), &format!("{label}/copy"))
}

#[test]
#[ignore = "needs a web server"]
fn clones_over_http_survive() {
    let web = Web::server();
    let folder = tempfile::Builder::new().prefix("faults-").tempdir_in(web.root).unwrap();
    let sandbox = Sandbox::with(Kind::Folders, Secrets::in_use());
    let work = sandbox.repository_without_store("work");
    work.init(path_str(&folder.path().join("store")));
    work.publish("a.bin", &noise(1, 3_000_000));

    let proxy = Proxy::start(&web.address);
    let name = Path::new(folder.path().file_name().unwrap());
    let url = format!("{}/{}/store", proxy.url(), path_str(name));
    let mut number = 0;
    for thing in [Thing::StoreJson, Thing::Manifest, Thing::Segment, Thing::Block] {
        for fault in [Fault::ResetBefore, Fault::CloseInAnswer, Fault::Refuse(Answer::s3(502, "", ""))] {
            let hits = proxy.on("GET", thing, 2, fault.clone());
            number += 1;
            let copy = clone_over_http(&sandbox, &format!("reader-{number}"), &url);
            assert_eq!(hits.count(), 2, "{fault:?} in GET {thing:?}");
            assert_same_tree(&work.path, &copy.path);
        }
    }
    for (thing, fault) in
        [(Thing::Block, Fault::FlipBit), (Thing::Block, Fault::ShortAnswer), (Thing::Segment, Fault::FlipBit)]
    {
        let hits = proxy.on("GET", thing, 1, fault.clone());
        number += 1;
        let copy = clone_over_http(&sandbox, &format!("reader-{number}"), &url);
        assert_eq!(hits.count(), 1, "{fault:?} in GET {thing:?}");
        assert_same_tree(&work.path, &copy.path);
    }
    let writes: Vec<_> =
        proxy.record().into_iter().filter(|e| !["GET", "HEAD"].contains(&e.request.verb)).collect();
    assert!(writes.is_empty(), "{writes:?}");
}
