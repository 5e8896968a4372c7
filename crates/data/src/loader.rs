//! Batches of a dataset, made ahead of time by threads, in an order that is a function of the seed and the epoch.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

use graver_ir::Diag;

use crate::dataset::Dataset;
use crate::item::Item;
use crate::key::Key;

/// Gives the batches of a dataset, epoch by epoch.
///
/// Order: without a shuffle that of the dataset; with one a Fisher-Yates shuffle whose numbers are [`Key::seed`]`(seed).fold(epoch)`'s,
/// the same on every machine. Batch `i` depends on the seed, the epoch and `i` alone, not on workers or timing, so that any
/// [`Position`] can be resumed from.
///
/// ```
/// use graver_data::{DataLoader, Dataset, InMemory};
/// use graver_ir::Array;
/// let data = InMemory::new(Array::from_vec([5], vec![0i64, 1, 2, 3, 4])?)?;
/// let loader = DataLoader::new(data, 2)?;
/// let batches: Vec<Array> = loader.epoch(0).collect::<Result<_, _>>()?;
/// assert_eq!(batches.iter().map(Array::to_f64).collect::<Vec<_>>(), [vec![0.0, 1.0], vec![2.0, 3.0], vec![4.0]]);
/// # Ok::<(), graver_ir::Diag>(())
/// ```
#[derive(Debug)]
pub struct DataLoader<D> {
    data: Arc<D>,
    batch_size: usize,
    seed: u64,
    order: Order,
    last: Last,
    workers: usize,
    ahead: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Sequential,
    Shuffled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Keep,
    Drop,
}

/// The next batch of a run over epochs: what a checkpoint must hold of a loader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The epoch, from 0.
    pub epoch: u64,
    /// The batch in it, from 0.
    pub batch: usize,
}

impl<D: Dataset + 'static> DataLoader<D> {
    /// Batches of `batch_size` items (the last of an epoch may be shorter), in the dataset's order, made by one thread, two ahead.
    ///
    /// # Errors
    /// If `batch_size` is 0.
    pub fn new(data: D, batch_size: usize) -> Result<Self, Diag> {
        if batch_size == 0 {
            return Err(Diag::new("a batch has one item or more").op("loader"));
        }
        let (order, last) = (Order::Sequential, Last::Keep);
        Ok(Self { data: Arc::new(data), batch_size, seed: 0, order, last, workers: 1, ahead: 2 })
    }

    /// Another order in every epoch.
    #[must_use]
    pub fn shuffle(self, seed: u64) -> Self {
        Self { order: Order::Shuffled, ..self.seed(seed) }
    }

    /// The seed of what transforms draw, without a shuffle.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Leaves out a last batch that is shorter.
    #[must_use]
    pub fn drop_last(self) -> Self {
        Self { last: Last::Drop, ..self }
    }

    /// The number of threads that make batches; 0: the caller's own, when it asks.
    #[must_use]
    pub fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    /// How many finished batches may wait, a worker: the bound of memory.
    #[must_use]
    pub fn prefetch(self, ahead: usize) -> Self {
        Self { ahead, ..self }
    }

    /// The dataset.
    #[must_use]
    pub fn dataset(&self) -> &D {
        &self.data
    }

    /// The number of batches of an epoch.
    #[must_use]
    pub fn batches(&self) -> usize {
        let len = self.data.len();
        match self.last {
            Last::Keep => len.div_ceil(self.batch_size),
            Last::Drop => len / self.batch_size,
        }
    }

    /// The batches of an epoch.
    #[must_use]
    pub fn epoch(&self, epoch: u64) -> Epoch<D> {
        self.resume(Position { epoch, batch: 0 })
    }

    /// The batches of an epoch from a position on: those that [`DataLoader::epoch`] gives there.
    #[must_use]
    pub fn resume(&self, position: Position) -> Epoch<D> {
        let batches = self.batches();
        let source = match self.plan(position.epoch) {
            Ok(plan) if self.workers == 0 => Ok(Source::Inline(plan)),
            Ok(plan) => Workers::start(&plan, self.workers, self.ahead, position.batch..batches).map(Source::Workers),
            Err(diag) => Err(diag),
        };
        let source = source.unwrap_or_else(|diag| Source::Failed(Some(diag)));
        Epoch { source, position, batches }
    }

    fn plan(&self, epoch: u64) -> Result<Plan<D>, Diag> {
        let (len, key) = (self.data.len(), Key::seed(self.seed).fold(epoch));
        let order = match self.order {
            Order::Sequential => None,
            Order::Shuffled => Some(shuffled(len, key)?),
        };
        let data = Arc::clone(&self.data);
        Ok(Plan { data, order: order.map(Arc::from), len, batch_size: self.batch_size, key })
    }
}

/// `0..len` in an order of `key`: Fisher-Yates, from the last place down, place `i` drawing [`Key::below`]`(i, i + 1)`.
fn shuffled(len: usize, key: Key) -> Result<Vec<usize>, Diag> {
    let mut order = Vec::new();
    let grown = order.try_reserve_exact(len);
    grown.map_err(|_| Diag::new(format!("no memory to shuffle {len} items")).op("loader"))?;
    order.extend(0..len);
    for last in (1..len).rev() {
        order.swap(last, key.below(last as u64, last + 1));
    }
    Ok(order)
}

/// What is needed to make any batch of an epoch.
struct Plan<D> {
    data: Arc<D>,
    order: Option<Arc<[usize]>>,
    len: usize,
    batch_size: usize,
    key: Key,
}

impl<D> Clone for Plan<D> {
    fn clone(&self) -> Self {
        Self { data: Arc::clone(&self.data), order: self.order.clone(), ..*self }
    }
}

type BatchOf<D> = <<D as Dataset>::Item as Item>::Batch;

impl<D: Dataset> Plan<D> {
    /// A batch; a panic of the dataset is an error.
    fn batch(&self, batch: usize) -> Result<BatchOf<D>, Diag> {
        let made = catch_unwind(AssertUnwindSafe(|| self.make(batch)));
        made.unwrap_or_else(
            |panic| Err(Diag::new(format!("batch {batch}: the dataset panicked: {}", said(&*panic))).op("loader")),
        )
    }

    fn make(&self, batch: usize) -> Result<BatchOf<D>, Diag> {
        let start = batch.saturating_mul(self.batch_size);
        let places = start..self.len.min(start.saturating_add(self.batch_size));
        let items = places.map(|place| {
            let index = self.order.as_ref().map_or(place, |order| order[place]);
            self.data.fetch(index, self.key.fold(index as u64)).map_err(|diag| of_item(diag, index))
        });
        D::Item::collate(items.collect::<Result<_, _>>()?)
    }
}

fn of_item(diag: Diag, index: usize) -> Diag {
    Diag { message: format!("item {index}: {}", diag.message), ..diag }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// Threads, of which number `w` of `n` makes the batches `first + w, first + w + n, ..` into a channel of its own: order needs no sorting.
struct Workers<B> {
    channels: Vec<Receiver<Result<B, Diag>>>,
    threads: Vec<JoinHandle<()>>,
    first: usize,
}

impl<B: Send + 'static> Workers<B> {
    fn start<D>(plan: &Plan<D>, workers: usize, ahead: usize, batches: std::ops::Range<usize>) -> Result<Self, Diag>
    where
        D: Dataset<Item: Item<Batch = B>> + 'static,
    {
        let workers = workers.min(batches.len()).min(256);
        let mut started = Self { channels: Vec::new(), threads: Vec::new(), first: batches.start };
        for worker in 0..workers {
            let (sender, receiver) = sync_channel(ahead);
            let (plan, mut own) = (plan.clone(), batches.clone().skip(worker).step_by(workers));
            let work = move || {
                // Ends when nobody listens any more, and after an error.
                let mut go_on = true;
                while let Some(batch) = own.next().filter(|_| go_on) {
                    let made = plan.batch(batch);
                    go_on = made.is_ok();
                    go_on &= sender.send(made).is_ok();
                }
            };
            let thread = Builder::new().name(format!("graver-data-{worker}")).spawn(work);
            started.threads.push(thread.map_err(|why| Diag::new(format!("no thread to load data with: {why}")).op("loader"))?);
            started.channels.push(receiver);
        }
        Ok(started)
    }

    fn batch(&self, batch: usize) -> Result<B, Diag> {
        let channel = &self.channels[(batch - self.first) % self.channels.len()];
        channel.recv().unwrap_or_else(|_| Err(Diag::new(format!("batch {batch}: its worker has ended")).op("loader")))
    }
}

impl<B> Drop for Workers<B> {
    /// Waits for the batches that are being made, so that no thread outlives its epoch.
    fn drop(&mut self) {
        self.channels.clear();
        for thread in self.threads.drain(..) {
            // A worker catches the dataset's panics; one while unwinding has been reported by its hook.
            drop(thread.join());
        }
    }
}

enum Source<D: Dataset> {
    Inline(Plan<D>),
    Workers(Workers<BatchOf<D>>),
    Failed(Option<Diag>),
}

/// The batches of an epoch. After an error there are no more.
pub struct Epoch<D: Dataset> {
    source: Source<D>,
    position: Position,
    batches: usize,
}

impl<D: Dataset> Epoch<D> {
    /// What [`DataLoader::resume`] goes on from: the batch that comes next, or the start of the next epoch.
    #[must_use]
    pub fn position(&self) -> Position {
        if self.position.batch < self.batches {
            self.position
        } else {
            Position { epoch: self.position.epoch.wrapping_add(1), batch: 0 }
        }
    }
}

impl<D: Dataset> Iterator for Epoch<D> {
    type Item = Result<BatchOf<D>, Diag>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Source::Failed(diag) = &mut self.source {
            return diag.take().map(Err);
        }
        if self.position.batch >= self.batches {
            return None;
        }
        let batch = match &self.source {
            Source::Inline(plan) => plan.batch(self.position.batch),
            Source::Workers(workers) => workers.batch(self.position.batch),
            Source::Failed(_) => return None,
        };
        match &batch {
            Ok(_) => self.position.batch += 1,
            Err(_) => self.source = Source::Failed(None),
        }
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.batches.saturating_sub(self.position.batch);
        (0, Some(left.max(1)))
    }
}

impl<D: Dataset> std::fmt::Debug for Epoch<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Epoch").field("position", &self.position).field("batches", &self.batches).finish_non_exhaustive()
    }
}
