//! A small HTTP/1.1 proxy between the agent and a server. It can do to each request all that networks and
//! servers do.
//!
//! It forwards to one upstream address with every header unchanged (S3 signs the `Host`), streams bodies both
//! ways, and writes down every request. [`Rule`]s say which requests meet which [`Fault`].

mod answer;
mod fault;
mod http;
mod record;
mod request;
mod serve;
mod tests;

use std::collections::HashSet;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::thread;

pub use self::answer::Answer;
pub use self::fault::{Fault, Hits, Pace};
use self::fault::{Matcher, Rule};
pub use self::http::Head;
pub use self::record::{Exchange, overwritten, summary};
pub use self::request::{Request, Thing};
use crate::scan::Secrets;

/// A proxy that runs until it is dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<Accepting>,
}

/// The thread that accepts connections, and its listener.
struct Accepting {
    listener: Arc<TcpListener>,
    thread: thread::JoinHandle<()>,
}

/// The state that the threads of a proxy share.
struct Shared {
    upstream: SocketAddr,
    /// No request may carry these, signed or not.
    secrets: Secrets,
    state: Mutex<State>,
    stopped: Condvar,
}

#[derive(Default)]
struct State {
    /// How often the proxy was stopped. Work that began before the last stop ends.
    stops: usize,
    rules: Vec<Rule>,
    record: Vec<Exchange>,
    /// How many were taken out of the record.
    taken: usize,
    /// Paths that an upstream acknowledged to have stored.
    stored: HashSet<String>,
    /// A request that carried a secret.
    leak: Option<String>,
    /// Every connection of a request under way, so that none outlives the proxy.
    open: Vec<Weak<TcpStream>>,
}

impl Proxy {
    /// A proxy on a port of its own. `upstream` is `http://HOST:PORT`, with or without a path.
    pub fn start(upstream: &str) -> Proxy {
        let authority = upstream.strip_prefix("http://").unwrap_or(upstream).split('/').next().unwrap();
        let upstream = authority.parse().unwrap_or_else(|e| panic!("{authority}: {e}"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream,
            secrets: Secrets::in_use(),
            state: Mutex::default(),
            stopped: Condvar::new(),
        });
        let accepting = Some(accept(listener, &shared));
        Proxy { address, shared, accepting }
    }

    /// Ends every connection, and listens no more.
    pub fn stop(&mut self) {
        let open = {
            let mut state = self.shared.state();
            state.stops += 1;
            std::mem::take(&mut state.open)
        };
        self.shared.stopped.notify_all();
        for stream in open.iter().filter_map(Weak::upgrade) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let Some(Accepting { listener, thread }) = self.accepting.take() {
            // closing is not enough: a process that another test is just starting has a copy for a moment
            let _ = rustix::net::shutdown(&*listener, rustix::net::Shutdown::Both);
            // where that doesn't wake the thread, this does
            drop(TcpStream::connect(self.address));
            thread.join().unwrap();
        }
    }

    /// Listens again at the same address.
    pub fn start_again(&mut self) {
        self.stop();
        self.accepting = Some(accept(TcpListener::bind(self.address).unwrap(), &self.shared));
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL to connect to instead of the upstream's.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next `times` requests with this verb (`LIST` is a GET that lists) for such a thing meet `fault`.
    pub fn on(&self, verb: &'static str, thing: Thing, times: usize, fault: Fault) -> Hits {
        self.after(0, verb, thing, times, fault)
    }

    /// The same from the request after the next `skip` ones.
    pub fn after(&self, skip: usize, verb: &'static str, thing: Thing, times: usize, fault: Fault) -> Hits {
        self.from(skip, times, move |request| request.verb == verb && request.thing == thing, fault)
    }

    /// Every request for which `refused` is true meets `fault`.
    pub fn whenever(&self, refused: impl Fn(&Request) -> bool + Send + Sync + 'static, fault: Fault) -> Hits {
        self.times(usize::MAX, refused, fault)
    }

    /// The next `times` requests for which `refused` is true meet `fault`.
    pub fn times(
        &self,
        times: usize,
        refused: impl Fn(&Request) -> bool + Send + Sync + 'static,
        fault: Fault,
    ) -> Hits {
        self.from(0, times, refused, fault)
    }

    /// The most general rule: among the requests for which `matches` is true, `times` requests after the next
    /// `skip` ones. The rule that was made first comes first.
    pub fn from(
        &self,
        skip: usize,
        times: usize,
        matches: impl Fn(&Request) -> bool + Send + Sync + 'static,
        fault: Fault,
    ) -> Hits {
        let matches: Matcher = Box::new(matches);
        let rule = Rule { matches, skip, times, fault, hits: Hits::default() };
        let hits = rule.hits.clone();
        self.shared.state().rules.push(rule);
        hits
    }

    /// From now on nothing goes wrong here. Requests that wait for ever go on waiting.
    pub fn heal(&self) {
        self.shared.state().rules.clear();
    }

    /// Every request so far, in the order of their arrival.
    pub fn record(&self) -> Vec<Exchange> {
        self.shared.state().record.clone()
    }

    /// The same, forgetting them.
    pub fn take_record(&self) -> Vec<Exchange> {
        let mut state = self.shared.state();
        state.taken += state.record.len();
        std::mem::take(&mut state.record)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop();
        let leak = self.shared.state().leak.take();
        if let Some(request) = leak.filter(|_| !thread::panicking()) {
            panic!("a request carries a secret: {request}");
        }
    }
}

fn accept(listener: TcpListener, shared: &Arc<Shared>) -> Accepting {
    let listener = Arc::new(listener);
    let shared = shared.clone();
    let own = listener.clone();
    let stops = shared.state().stops;
    let thread = thread::spawn(move || {
        for stream in own.incoming() {
            if shared.state().stops > stops {
                return;
            }
            // a client that is gone already is no concern of ours
            let Ok(stream) = stream else { continue };
            let shared = shared.clone();
            thread::spawn(move || serve::connection(&shared, stream));
        }
    });
    Accepting { listener, thread }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Writes a request down. Returns its number, and the fault that it meets.
    fn begin(&self, mut request: Request) -> (usize, Option<Fault>) {
        let mut state = self.state();
        if self.secrets.stand_in(&request.head) {
            state.leak = Some(format!("{} {}", request.verb, request.path));
        }
        request.stored_before = state.stored.contains(&request.path);
        let fault = state.rules.iter_mut().find_map(|rule| rule.apply(&request));
        state.record.push(Exchange::new(request, fault.as_ref()));
        (state.taken + state.record.len() - 1, fault)
    }

    /// Changes the record of a request. Does nothing if it was taken out meanwhile.
    fn note(&self, number: usize, change: impl FnOnce(&mut Exchange)) {
        let mut state = self.state();
        let Some(index) = number.checked_sub(state.taken) else { return };
        let exchange = &mut state.record[index];
        change(exchange);
        if exchange.stored() {
            let path = exchange.request.path.clone();
            state.stored.insert(path);
        }
    }

    /// Takes care of a connection when the proxy stops.
    fn adopt(&self, stream: TcpStream) -> Arc<TcpStream> {
        let stream = Arc::new(stream);
        let mut state = self.state();
        state.open.retain(|other| other.strong_count() > 0);
        state.open.push(Arc::downgrade(&stream));
        stream
    }

    fn wait_until_stopped(&self) {
        let state = self.state();
        let stops = state.stops;
        drop(self.stopped.wait_while(state, |state| state.stops == stops).unwrap());
    }
}
