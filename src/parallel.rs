//! A queue of work for all cores. The results come in the order in which the work was handed in.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use rayon::ThreadPool;

use super::error::{Error, Result};

/// The side that hands work in.
pub(super) struct Work<T> {
    cores: Arc<ThreadPool>,
    queue: Sender<Receiver<Result<T>>>,
}

/// The side that takes results. It ends when the work has ended.
pub(super) struct Results<T> {
    queue: Receiver<Receiver<Result<T>>>,
}

/// The receiver takes no more results, so the sender should stop.
pub(super) struct Stopped;

/// Creates a queue. At most `depth` pieces of work are under way on `cores` or wait to be taken.
pub(super) fn ordered<T>(cores: &Arc<ThreadPool>, depth: usize) -> (Work<T>, Results<T>) {
    let (sender, receiver) = bounded(depth);
    (Work { cores: cores.clone(), queue: sender }, Results { queue: receiver })
}

impl<T: Send + 'static> Work<T> {
    /// Runs `job` on some core. Waits while the queue is full.
    pub(super) fn run(&self, job: impl FnOnce() -> Result<T> + Send + 'static) -> Result<(), Stopped> {
        let (sender, receiver) = bounded(1);
        self.queue.send(receiver).map_err(|_| Stopped)?;
        self.cores.spawn_fifo(move || {
            // rayon would abort the process
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            let done = done.unwrap_or_else(|_| Err(Error::internal("work on a part of an object panicked")));
            // the receiver is gone if the upload has failed meanwhile
            let _ = sender.send(done);
        });
        Ok(())
    }
}

impl<T> Iterator for Results<T> {
    type Item = Result<T>;

    /// Returns the next result. A lost result is an error, and never the end.
    fn next(&mut self) -> Option<Result<T>> {
        let result = self.queue.recv().ok()?;
        Some(result.recv().unwrap_or_else(|_| Err(Error::internal("a part of an object was lost"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_a_panic_is_an_error_in_its_place() {
        let (work, results) = ordered(crate::threads::cores().unwrap(), 4);
        let submit = std::thread::spawn(move || {
            for number in 0..20u64 {
                let job = move || {
                    std::thread::sleep(std::time::Duration::from_millis(20 - number));
                    if number == 7 { panic!("as the test wants it") } else { Ok(number) }
                };
                assert!(work.run(job).is_ok());
            }
        });
        let results: Vec<_> = results.collect();
        submit.join().unwrap();
        assert_eq!(results.len(), 20);
        for (number, result) in results.iter().enumerate() {
            match result {
                Ok(value) => assert_eq!(*value, number as u64),
                Err(_) => assert_eq!(number, 7),
            }
        }
    }
}
