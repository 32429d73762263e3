//! A torture: pushers, pullers and compactors work at one store at the same time. Their processes are killed,
//! some of their clocks are off, and the link to a store in a bucket is faulty. No acknowledged object may be
//! lost.
//!
//! One seed drives all choices, and `GIT_LFS_CDC_TORTURE_SEED` sets it. A seed repeats the choices, but not
//! how the threads interleave. The short form acts for some seconds, the full form for ten minutes.

mod audit;
mod clock;
mod compactor;
mod ledger;
mod link;
mod puller;
mod pusher;
mod trouble;
mod world;

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::compactor::Compactor;
use self::puller::{FreshPuller, OldPuller};
use self::pusher::Pusher;
use self::world::World;
use crate::dice::Dice;
use crate::process::say;
use crate::sandbox::full;

/// A new seed for each run, so that each run in CI tries other choices.
fn seed() -> u64 {
    match std::env::var("GIT_LFS_CDC_TORTURE_SEED") {
        Ok(text) => text.parse().unwrap_or_else(|e| panic!("GIT_LFS_CDC_TORTURE_SEED={text}: {e}")),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().into(),
    }
}

/// An actor of the torture, which takes one step after the other.
trait Actor: Send {
    fn act(&mut self, world: &World);

    /// Completes the remaining work and checks it, when there are no faults any more.
    fn finish(&mut self, world: &World);
}

struct Cast {
    pushers: Vec<Pusher>,
    old: OldPuller,
    fresh: FreshPuller,
    compactors: [Compactor; 2],
}

impl Cast {
    fn new(world: &World, dice: &mut Dice) -> Cast {
        Cast {
            pushers: Pusher::several(world, dice, if full() { 4 } else { 3 }),
            old: OldPuller::new(world, dice),
            fresh: FreshPuller::new(dice),
            compactors: [Compactor::new(world, dice), Compactor::new(world, dice)],
        }
    }

    /// Everybody acts until the time is over, or until somebody has found a fault.
    fn act(&mut self, world: &World, time: Duration) {
        let end = Instant::now() + time;
        let is_over = || Instant::now() >= end || world.has_failed();
        thread::scope(|scope| {
            if let Some(link) = &world.link {
                scope.spawn(move || {
                    let _witness = world.witness();
                    link.change_until(is_over);
                });
            }
            for actor in self.everybody() {
                scope.spawn(move || {
                    let _witness = world.witness();
                    while !is_over() {
                        actor.act(world);
                    }
                });
            }
        });
        world.calm();
    }

    fn everybody(&mut self) -> Vec<&mut dyn Actor> {
        let mut all: Vec<&mut dyn Actor> = Vec::new();
        all.extend(self.pushers.iter_mut().map(|pusher| pusher as &mut dyn Actor));
        all.extend([&mut self.old as &mut dyn Actor, &mut self.fresh]);
        all.extend(self.compactors.iter_mut().map(|compactor| compactor as &mut dyn Actor));
        all
    }

    /// Looks at everything when all is quiet, then compacts and looks again.
    fn finish(&mut self, world: &World) {
        self.pushers.iter_mut().for_each(|pusher| pusher.finish(world));
        self.old.finish(world);
        self.fresh.finish(world);
        audit::every_branch(world);
        self.compactors.iter_mut().for_each(|compactor| compactor.finish(world));
        audit::every_branch(world);
    }
}

#[test]
fn nothing_acknowledged_is_lost() {
    let seed = seed();
    let time = Duration::from_secs(if full() { 600 } else { 12 });
    say(&format!("torture of {} s, GIT_LFS_CDC_TORTURE_SEED={seed}", time.as_secs()));
    let mut dice = Dice::new(seed);
    let world = World::new(&mut dice);
    let mut cast = Cast::new(&world, &mut dice);
    cast.act(&world, time);
    cast.finish(&world);
    say(&format!("torture: {}, none lost", world.summary()));
    world.expect_action();
}
