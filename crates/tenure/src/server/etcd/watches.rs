//! The watches of a client: one stream carries all of them.
//!
//! The stream is at the member that is called first. When calls go to another member, the stream moves there and continues
//! every watch from its revision, so that a member that hangs delays no waiter for long.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::uri::PathAndQuery;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Streaming};
use tonic_prost::ProstCodec;

use super::client::{Client, WATCH, authorise};
use super::messages::{WatchRequest, WatchResponse};

/// The time until a stream is opened again after one that failed.
const OPEN_AGAIN: Duration = Duration::from_millis(500);
/// The time between two looks at which member is called first.
const LOOK: Duration = Duration::from_secs(1);
/// How long a stream without a watch stays open.
const LINGER: Duration = Duration::from_secs(10);

/// The outcome of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The key was deleted.
    Gone,
    /// The server ended the watch. The waiter has to read the key.
    Blind,
}

/// All watches of a client.
#[derive(Default)]
pub(super) struct Watches {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    last: u64,
    wanted: HashMap<u64, Wanted>,
    /// The watch of each key. All shares that wait for the same key have one.
    numbers: HashMap<Arc<str>, u64>,
    /// Not sent yet.
    added: Vec<u64>,
    removed: Vec<u64>,
    /// A task has the stream.
    runs: bool,
}

struct Wanted {
    key: Arc<str>,
    /// The create revision of the key.
    created: i64,
    /// The first revision that was not seen yet.
    from: i64,
    told: Vec<Arc<Told>>,
}

struct Told {
    news: Mutex<Option<News>>,
    wakes: Arc<Notify>,
}

/// A watch of one key, which ends when this is dropped.
pub(super) struct Watch {
    watches: Arc<Watches>,
    number: u64,
    told: Arc<Told>,
}

impl Watch {
    /// Watches for the deletion of `key`, which was created at the revision `created`, from the revision `from` on. News wake
    /// `wakes`. For tasks of the I/O thread.
    pub(super) fn new(
        watches: &Arc<Watches>,
        client: &Arc<Client>,
        (key, created): (&str, i64),
        from: i64,
        wakes: &Arc<Notify>,
    ) -> Watch {
        let watches = Arc::clone(watches);
        let told = Arc::new(Told { news: Mutex::default(), wakes: Arc::clone(wakes) });
        let mut state = watches.state();
        // Another watch for the same creation of the key began at a read that found it, so it misses no deletion.
        let known = state.numbers.get(key).copied();
        if let Some(number) = known
            && let Some(wanted) = state.wanted.get_mut(&number)
            && wanted.created == created
        {
            wanted.told.push(Arc::clone(&told));
            drop(state);
            return Watch { watches, number, told };
        }
        state.last += 1;
        let number = state.last;
        let key = Arc::<str>::from(key);
        state.numbers.insert(Arc::clone(&key), number);
        state.wanted.insert(number, Wanted { key, created, from, told: vec![Arc::clone(&told)] });
        state.added.push(number);
        if !std::mem::replace(&mut state.runs, true) {
            tokio::spawn(run(Arc::downgrade(client), Arc::clone(&watches)));
        }
        drop(state);
        watches.changed.notify_one();
        Watch { watches, number, told }
    }

    /// Returns the news, once there are some.
    pub(super) fn news(&self) -> Option<News> {
        *self.told.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.watches.state();
        if let Some(wanted) = state.wanted.get_mut(&self.number) {
            wanted.told.retain(|told| !Arc::ptr_eq(told, &self.told));
            if !wanted.told.is_empty() {
                return;
            }
            state.take(self.number);
        }
        state.removed.push(self.number);
        drop(state);
        self.watches.changed.notify_one();
    }
}

impl State {
    /// Takes a watch out.
    fn take(&mut self, number: u64) -> Option<Wanted> {
        let wanted = self.wanted.remove(&number)?;
        if self.numbers.get(&wanted.key) == Some(&number) {
            self.numbers.remove(&wanted.key);
        }
        Some(wanted)
    }
}

impl Watches {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the watch of that number with news.
    fn tell(&self, number: u64, news: News) {
        let wanted = self.state().take(number);
        for told in wanted.into_iter().flat_map(|wanted| wanted.told) {
            *told.news.lock().unwrap_or_else(PoisonError::into_inner) = Some(news);
            told.wakes.notify_one();
        }
    }

    /// Returns the request for that watch; `None` if it is not wanted any more.
    fn request(&self, number: u64) -> Option<WatchRequest> {
        self.state().wanted.get(&number).map(|wanted| WatchRequest::create(&wanted.key, wanted.from))
    }

    /// Records that no task has the stream any more, if nothing is wanted.
    fn end_if_idle(&self) -> bool {
        let mut state = self.state();
        state.runs = !state.wanted.is_empty();
        !state.runs
    }

    fn is_idle(&self) -> bool {
        self.state().wanted.is_empty()
    }
}

/// Keeps a stream open as long as there are watches.
async fn run(client: Weak<Client>, watches: Arc<Watches>) {
    loop {
        let Some(client) = client.upgrade() else { return };
        serve(&client, &watches).await;
        if watches.end_if_idle() {
            return;
        }
        sleep(OPEN_AGAIN).await;
    }
}

/// One stream, from its opening to its end.
struct Stream<'a> {
    watches: &'a Watches,
    sender: mpsc::UnboundedSender<WatchRequest>,
    /// The watches that the server has not confirmed yet. It does so in this order.
    sent: VecDeque<u64>,
    /// The server's number of each watch, and the other way round.
    ids: HashMap<u64, i64>,
    numbers: HashMap<i64, u64>,
    /// The server has refused a watch, perhaps because the stream's token is no longer good.
    is_refused: bool,
}

impl Stream<'_> {
    fn create(&mut self, number: u64) {
        if let Some(request) = self.watches.request(number) {
            self.sent.push_back(number);
            let _ = self.sender.send(request);
        }
    }

    /// Sends what has changed.
    fn update(&mut self) {
        let (added, removed) = {
            let mut state = self.watches.state();
            (std::mem::take(&mut state.added), std::mem::take(&mut state.removed))
        };
        added.into_iter().for_each(|number| self.create(number));
        for number in removed {
            if let Some(id) = self.ids.remove(&number) {
                self.numbers.remove(&id);
                let _ = self.sender.send(WatchRequest::cancel(id));
            }
        }
    }

    fn receive(&mut self, answer: &WatchResponse) {
        if answer.created {
            let Some(number) = self.sent.pop_front() else { return };
            if answer.canceled || answer.watch_id < 0 {
                self.is_refused = true;
                self.watches.tell(number, News::Blind);
            } else if self.watches.request(number).is_none() {
                let _ = self.sender.send(WatchRequest::cancel(answer.watch_id));
            } else {
                self.ids.insert(number, answer.watch_id);
                self.numbers.insert(answer.watch_id, number);
            }
            return;
        }
        let Some(number) = self.numbers.get(&answer.watch_id).copied() else { return };
        if !answer.events.is_empty() {
            self.watches.tell(number, News::Gone);
        } else if answer.canceled {
            self.numbers.remove(&answer.watch_id);
            self.ids.remove(&number);
            self.watches.tell(number, News::Blind);
        }
    }
}

async fn serve(client: &Client, watches: &Watches) {
    let Some((mut grpc, member)) = client.stream().await else { return };
    let (sender, receiver) = mpsc::unbounded_channel();
    let (sent, ids, numbers) = (VecDeque::new(), HashMap::new(), HashMap::new());
    let mut stream = Stream { watches, sender, sent, ids, numbers, is_refused: false };
    let all: Vec<u64> = {
        let mut state = watches.state();
        state.added.clear();
        state.removed.clear();
        state.wanted.keys().copied().collect()
    };
    all.into_iter().for_each(|number| stream.create(number));
    let mut request = Request::new(UnboundedReceiverStream::new(receiver));
    // The server checks the token of the stream at each watch. The client's calls replace one that has run out.
    let token = client.known_token();
    authorise(&mut request, token.as_deref());
    let codec: ProstCodec<WatchRequest, WatchResponse> = ProstCodec::default();
    // The server begins its answer with the first message.
    let mut opening = Box::pin(grpc.streaming(request, PathAndQuery::from_static(WATCH), codec));
    let mut answers: Option<Streaming<WatchResponse>> = None;
    let mut used = Instant::now();
    let mut look = Instant::now() + LOOK;
    loop {
        tokio::select! {
            opened = &mut opening, if answers.is_none() => match opened {
                Ok(opened) => answers = Some(opened.into_inner()),
                Err(_) => return,
            },
            answer = next(&mut answers), if answers.is_some() => match answer {
                Some(answer) => stream.receive(&answer),
                None => return,
            },
            () = watches.changed.notified() => {
                stream.update();
                used = Instant::now();
            }
            () = sleep_until(look) => {
                let has_old_token = stream.is_refused && client.known_token() != token;
                if has_old_token || client.first() != member || (watches.is_idle() && used.elapsed() > LINGER) {
                    return;
                }
                look = Instant::now() + LOOK;
            }
        }
    }
}

/// Returns the next answer; `None` at the stream's end.
async fn next(answers: &mut Option<Streaming<WatchResponse>>) -> Option<WatchResponse> {
    match answers {
        Some(answers) => answers.message().await.ok().flatten(),
        None => None,
    }
}
