//! Work done on all cores, its results taken in the order it was handed in.

use crossbeam_channel::{Receiver, Sender, bounded};

/// Hands work in.
pub(super) struct Work<T> {
    queue: Sender<Receiver<T>>,
}

/// Takes results out; ends when the work has ended.
pub(super) struct Results<T> {
    queue: Receiver<Receiver<T>>,
}

/// Whoever takes the results has stopped: so should whoever hands work in.
pub(super) struct Stopped;

/// A queue in which at most `depth` pieces of work are under way or waiting to be taken.
pub(super) fn ordered<T>(depth: usize) -> (Work<T>, Results<T>) {
    let (sender, receiver) = bounded(depth);
    (Work { queue: sender }, Results { queue: receiver })
}

impl<T: Send + 'static> Work<T> {
    /// Runs `job` on some core; waits while the queue is full.
    pub(super) fn run(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<(), Stopped> {
        let (sender, receiver) = bounded(1);
        self.queue.send(receiver).map_err(|_| Stopped)?;
        rayon::spawn_fifo(move || {
            // nobody waits for the result if the upload has failed meanwhile
            let _ = sender.send(job());
        });
        Ok(())
    }
}

impl<T> Iterator for Results<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.queue.recv().ok()?.recv().ok()
    }
}
