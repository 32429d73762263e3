//! The link to a store in a bucket: a proxy with faults that come and go.

use std::sync::Mutex;
use std::thread::sleep;
use std::time::Duration;

use crate::dice::Dice;
use crate::proxy::{Answer, Exchange, Fault, Hits, Pace, Proxy, Request, Thing};
use crate::s3;

/// One of so many requests meets a fault: none while the link is sound.
const MOODS: [Option<u64>; 4] = [None, Some(200), Some(40), Some(8)];

pub struct Link {
    proxy: Proxy,
    dice: Mutex<Dice>,
    hits: Mutex<Vec<Hits>>,
}

impl Link {
    pub fn new(dice: &mut Dice) -> Link {
        Link { proxy: Proxy::start(&s3::server()), dice: Mutex::new(dice.other()), hits: Mutex::default() }
    }

    pub fn url(&self) -> String {
        self.proxy.url()
    }

    pub fn faults(&self) -> usize {
        self.hits.lock().unwrap().iter().map(Hits::count).sum()
    }

    /// Every second or so the link gets better or worse.
    pub fn change_until(&self, is_over: impl Fn() -> bool) {
        while !is_over() {
            let (mood, pause) = {
                let mut dice = self.dice.lock().unwrap();
                (*dice.pick(&MOODS), dice.between(200, 2000))
            };
            self.calm();
            if let Some(mood) = mood {
                self.spoil(mood);
            }
            sleep(Duration::from_millis(pause));
        }
    }

    /// Makes the link sound. Nothing was overwritten so far but the manifest, and the probes of `init`.
    pub fn calm(&self) {
        self.proxy.heal();
        let overwritten = |exchange: &&Exchange| {
            let may_be = [Thing::Manifest, Thing::Probe].contains(&exchange.request.thing);
            exchange.stored() && exchange.request.stored_before && !may_be
        };
        let record = self.proxy.take_record();
        let overwritten: Vec<_> = record.iter().filter(overwritten).collect();
        assert!(overwritten.is_empty(), "{overwritten:?}");
    }

    fn spoil(&self, mood: u64) {
        let faults = faults();
        let each = mood * faults.len() as u64;
        for fault in faults {
            let dice = Mutex::new(self.dice.lock().unwrap().other());
            let hits = self.proxy.whenever(move |_: &Request| dice.lock().unwrap().one_in(each), fault);
            self.hits.lock().unwrap().push(hits);
        }
    }
}

/// Every fault that passes by itself, silences aside: those take longer than a torture in its short form.
fn faults() -> Vec<Fault> {
    let pace = Pace { bytes: 20_000, pause: Duration::from_millis(10) };
    vec![
        Fault::ResetBefore,
        Fault::ResetInRequest,
        Fault::LoseAnswer,
        Fault::ResetInAnswer,
        Fault::CloseInAnswer,
        Fault::ShortAnswer,
        Fault::FlipBit,
        Fault::SlowRequest(pace),
        Fault::SlowAnswer(pace),
        Fault::Refuse(Answer::internal_error()),
        Fault::Refuse(Answer::slow_down()),
        Fault::Refuse(Answer::too_many_requests("1")),
        Fault::Refuse(Answer::conflict()),
        Fault::Replace(Answer::internal_error()),
    ]
}
