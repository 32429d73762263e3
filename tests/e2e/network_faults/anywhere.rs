//! Any fault in any request, with git-lfs's own number of agents. Nothing acknowledged is lost, nothing wrong
//! is delivered, and a second try completes each command that failed.

use std::time::Duration;

use super::scene::{Scene, check_out, side_by_side};
use crate::data::{assert_same_tree, noise};
use crate::dice::Dice;
use crate::process::say;
use crate::proxy::{Answer, Fault, Pace, Request};
use crate::sandbox::full;

fn any_fault(dice: &mut Dice) -> Fault {
    let pace = Pace { bytes: 3_000, pause: Duration::from_millis(5) };
    let faults = [
        Fault::ResetBefore,
        Fault::ResetInRequest,
        Fault::LoseAnswer,
        Fault::ResetInAnswer,
        Fault::CloseInAnswer,
        Fault::ShortAnswer,
        Fault::FlipBit,
        Fault::SlowRequest(pace),
        Fault::SlowAnswer(pace),
        Fault::Silence,
        Fault::SilenceInRequest,
        Fault::SilenceInAnswer,
        Fault::Refuse(Answer::internal_error()),
        Fault::Refuse(Answer::slow_down()),
        Fault::Refuse(Answer::too_many_requests("1")),
        Fault::Refuse(Answer::access_denied()),
        Fault::Refuse(Answer::expired_token()),
        Fault::Refuse(Answer::conflict()),
        Fault::Replace(Answer::internal_error()),
        Fault::Replace(Answer::access_denied()),
    ];
    dice.pick(&faults).clone()
}

/// Up to three rules: a fault for some requests in a row, from the n-th on.
fn spoil(scene: &Scene, dice: &mut Dice, requests: u64) -> Vec<String> {
    let rules = 1 + dice.below(3);
    let spoiled = (0..rules).map(|_| {
        let skip = dice.below(requests) as usize;
        let times = 1 + dice.below(4) as usize;
        let fault = any_fault(dice);
        let what = format!("{times} times {fault:?} from request {skip} on");
        scene.proxy.from(skip, times, |_: &Request| true, fault);
        what
    });
    spoiled.collect()
}

fn files(dice: &mut Dice) -> Vec<(String, Vec<u8>)> {
    let largest = if full() { 90_000_000 } else { 1_500_000 };
    let count = 1 + dice.below(4);
    let mut file = |number| {
        let len = *dice.pick(&[200, 30_000, 400_000, largest]);
        (format!("{number}.bin"), noise(dice.seed() + 1_000_000, len))
    };
    (0..count).map(&mut file).collect()
}

#[test]
#[ignore = "needs an S3 server"]
fn any_request_may_fail() {
    let seeds: Vec<u64> = (1..=if full() { 60 } else { 6 }).collect();
    side_by_side(&seeds, |seed| {
        let scene = Scene::new();
        let mut dice = Dice::new(seed * 10_000);
        scene.usual_agents();
        if full() {
            // a server that stores a large block is silent for a while
            scene.patience("20");
        }
        let mut failures = 0;
        for round in 0..2 {
            for (name, content) in files(&mut dice) {
                scene.work.write(&format!("{round}-{name}"), &content);
            }
            scene.work.commit("content");
            let what = format!("seed {seed}, round {round}, push: {:?}", spoil(&scene, &mut dice, 25));
            let outcome = scene.try_push();
            scene.proxy.heal();
            if !outcome.success() {
                failures += 1;
                scene.says(&what, &outcome, &["error transferring", "s3://lfs/"]);
                scene.push();
            }
            // check the acknowledged objects before another command can mend them
            scene.everything_is_there();

            let what = format!("seed {seed}, round {round}, clone: {:?}", spoil(&scene, &mut dice, 15));
            let (outcome, copy) = scene.try_clone();
            scene.proxy.heal();
            if !outcome.success() {
                failures += 1;
                scene.says(&what, &outcome, &["error transferring"]);
                scene.delivered_nothing_wrong(&what, &copy);
                check_out(&copy);
            }
            assert_same_tree(&scene.work.path, &copy.path);
        }
        say(&format!("seed {seed}: {failures} of 4 commands failed, and were completed"));
    });
}
