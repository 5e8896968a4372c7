//! Arrays that stay where a device computes: what a call reads or writes is copied there once, and back when somebody reads it.

use std::ops::Deref;

use graver_ir::kernel::Program;
use graver_ir::{Array, Diag, Error, Remote};

use crate::{Binding, Slot};

/// A device with memory of its own.
pub trait Device {
    /// A piece of it, which holds one array's elements.
    type Memory: Remote;

    /// Whether a piece is of this device.
    fn owns(&self, memory: &Self::Memory) -> bool;

    /// A new piece, holding these bytes.
    ///
    /// # Errors
    /// The device has no memory for them.
    fn upload(&self, bytes: &[u8]) -> Result<Self::Memory, Error>;

    /// A new piece, holding what another one holds.
    ///
    /// # Errors
    /// The device has no memory for it.
    fn duplicate(&self, memory: &Self::Memory) -> Result<Self::Memory, Error>;
}

/// Where a call finds an array on its device.
#[derive(Debug)]
pub enum Held<'a, M> {
    /// In memory that the array remembers.
    Kept(&'a M),
    /// In memory of this call, since the array remembers another device's.
    Copied(M),
}

impl<M> Deref for Held<'_, M> {
    type Target = M;

    fn deref(&self) -> &M {
        match self {
            Self::Kept(memory) => memory,
            Self::Copied(memory) => memory,
        }
    }
}

/// An array on a device, to be read.
///
/// # Errors
/// As [`Device::upload`], or as [`Array::fetch`] where another device has the elements.
pub fn readable<'a, D: Device>(device: &D, array: &'a Array) -> Result<Held<'a, D::Memory>, Error> {
    let known = || array.remote::<D::Memory>().filter(|memory| device.owns(memory));
    if let Some(memory) = known() {
        return Ok(Held::Kept(memory));
    }
    array.set_remote(Box::new(device.upload(array.fetch()?.bytes())?));
    match known() {
        Some(memory) => Ok(Held::Kept(memory)),
        None => Ok(Held::Copied(device.upload(array.fetch()?.bytes())?)),
    }
}

/// An array on a device, to be written by a call, which says [`Array::remote_written`] when it has. Nobody shares the memory.
///
/// # Errors
/// As [`Device::upload`], or as [`Array::fetch`] where another device has the elements.
///
/// # Panics
/// Never: what was just moved is there.
pub fn writable<'a, D: Device>(device: &D, array: &'a mut Array) -> Result<&'a D::Memory, Error> {
    let known = array.remote::<D::Memory>().filter(|memory| device.owns(memory));
    let moved = match known {
        Some(_) if !array.is_shared() => None,
        Some(memory) => Some(device.duplicate(memory)?),
        None => Some(device.upload(array.fetch()?.bytes())?),
    };
    if let Some(memory) = moved {
        *array = Array::from_remote(array.dtype(), array.shape(), Box::new(memory));
    }
    Ok(array.remote().expect("it was there, or was moved there"))
}

/// The state of a call on its device, by slot.
///
/// # Errors
/// As [`Device::upload`], or as [`Array::fetch`] where another device has the elements.
pub fn resident<'a, D: Device>(
    device: &D,
    binding: &Binding,
    state: &'a mut [Slot<'_>],
) -> Result<Vec<Held<'a, D::Memory>>, Error> {
    let held = |(place, slot): (usize, &'a mut Slot<'_>)| match slot {
        Slot::Read(array) => readable(device, array),
        Slot::Write(array) => match binding.writes(place) {
            true => writable(device, array).map(Held::Kept),
            false => readable(device, array),
        },
    };
    state.iter_mut().enumerate().map(held).collect()
}

/// What a call has done on its device to the state that its entry writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// It is as it was.
    Nothing,
    /// Some launches wrote to it, and others that would have did not, or nobody knows.
    Part,
    /// All that the entry writes.
    All,
}

/// What to do about state that was written in part.
const ANEW: &str = "set it anew, from a checkpoint, before the next call";

impl Wrote {
    /// The error of a call that did this: it says so where the state is nothing that can be gone on from.
    #[must_use]
    pub fn told(self, error: Error) -> Error {
        let told = |diag: &Diag| {
            let own = if diag.help.is_empty() { String::new() } else { format!("{}; ", diag.help) };
            diag.clone().help(format!("{own}the call ended between its writes to the state, which is undefined now: {ANEW}"))
        };
        match self {
            Self::Nothing | Self::All => error,
            Self::Part => Error::from_diags(error.diags().iter().map(told).collect()).expect("an error has diagnostics"),
        }
    }
}

/// Elements that nobody knows: why.
#[derive(Debug)]
struct Undefined(Diag);

impl Remote for Undefined {
    fn read(&self, _: &mut [u8]) -> Result<(), Diag> {
        Err(self.0.clone())
    }
}

/// Tells the state what a call has done to it on its device. Where that is a part, every slot that the entry writes is an error for whoever
/// reads it, the next call among them, until it is set anew.
pub fn written(program: &Program, binding: &Binding, state: &mut [Slot<'_>], wrote: Wrote) {
    for place in &binding.written {
        let Slot::Write(array) = &mut state[*place] else { continue };
        match wrote {
            Wrote::Nothing => {}
            Wrote::All => array.remote_written(),
            Wrote::Part => {
                let (path, entry) = (&program.state[*place].path, &program.entries[binding.entry].name);
                let why = format!("`{path}` is undefined: a call of `{entry}` failed between its writes to the state");
                let undefined = Undefined(Diag::new(why).help(ANEW));
                **array = Array::from_remote(array.dtype(), array.shape(), Box::new(undefined));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Copies to the device, on it, and back.
    #[derive(Clone, Debug, Default)]
    struct Fake(Arc<[AtomicUsize; 3]>);

    #[derive(Debug)]
    struct Piece(Fake, Mutex<Vec<u8>>);

    impl Fake {
        fn piece(&self, kind: usize, bytes: &[u8]) -> Piece {
            self.0[kind].fetch_add(1, Relaxed);
            Piece(self.clone(), Mutex::new(bytes.to_vec()))
        }

        fn counts(&self) -> [usize; 3] {
            self.0.each_ref().map(|count| count.load(Relaxed))
        }
    }

    impl Remote for Piece {
        fn read(&self, to: &mut [u8]) -> Result<(), Diag> {
            self.0.0[2].fetch_add(1, Relaxed);
            to.copy_from_slice(&self.1.lock().expect("nobody panics"));
            Ok(())
        }
    }

    impl Device for Fake {
        type Memory = Piece;

        fn owns(&self, memory: &Piece) -> bool {
            Arc::ptr_eq(&self.0, &memory.0.0)
        }

        fn upload(&self, bytes: &[u8]) -> Result<Piece, Error> {
            Ok(self.piece(0, bytes))
        }

        fn duplicate(&self, memory: &Piece) -> Result<Piece, Error> {
            Ok(self.piece(1, &memory.1.lock().expect("nobody panics")))
        }
    }

    /// A call that adds 1 to every byte.
    fn step(device: &Fake, array: &mut Array) {
        let memory = writable(device, array).expect("there is memory");
        memory.1.lock().expect("nobody panics").iter_mut().for_each(|byte| *byte += 1);
        array.remote_written();
    }

    fn bytes(values: [u8; 2]) -> Array {
        Array::from_vec([2], values.to_vec()).expect("two")
    }

    #[test]
    fn steps_copy_once_each_way() {
        let (device, mut array) = (Fake::default(), bytes([1, 2]));
        (0..5).for_each(|_| step(&device, &mut array));
        assert_eq!(device.counts(), [1, 0, 0]);
        assert!(!array.is_on_host());
        assert_eq!(array.bytes(), [6, 7]);
        assert_eq!(array.as_slice::<u8>(), Some([6, 7].as_slice()));
        assert_eq!(device.counts(), [1, 0, 1]);
        step(&device, &mut array);
        assert_eq!((array.bytes(), device.counts()), ([7, 8].as_slice(), [1, 0, 2]));
    }

    #[test]
    fn who_writes_on_the_host_is_heard() {
        let (device, mut array) = (Fake::default(), bytes([1, 2]));
        step(&device, &mut array);
        array.bytes_mut()[0] = 9;
        step(&device, &mut array);
        assert_eq!(array, bytes([10, 4]));
        assert_eq!(device.counts(), [2, 0, 2]);
    }

    #[test]
    fn what_is_shared_stays_as_it_was() {
        let (device, mut array) = (Fake::default(), bytes([1, 2]));
        step(&device, &mut array);
        let (before, watch) = (array.clone(), array.watch());
        step(&device, &mut array);
        assert_eq!((before, array.clone()), (bytes([2, 3]), bytes([3, 4])));
        assert!(!watch.holds(&array));
        assert_eq!(device.counts(), [1, 1, 2]);
    }

    #[test]
    fn readers_share_one_copy_and_another_device_gets_its_own() {
        let (device, other, array) = (Fake::default(), Fake::default(), bytes([1, 2]));
        let clone = array.clone();
        for array in [&array, &clone, &array] {
            assert!(matches!(readable(&device, array), Ok(Held::Kept(_))));
        }
        assert!(matches!(readable(&other, &array), Ok(Held::Copied(_))));
        assert_eq!((device.counts(), other.counts()), ([1, 0, 0], [2, 0, 0]));
        assert!(array.is_on_host());
        let mut moved = array;
        step(&other, &mut moved);
        assert_eq!((clone, moved), (bytes([1, 2]), bytes([2, 3])));
    }
}
