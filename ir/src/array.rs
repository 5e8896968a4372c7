//! Dense arrays: constants of programs, inputs and outputs of calls, state. Their elements are the host's, or a device's until
//! somebody reads them.

mod data;
mod elements;
mod pages;
mod position;
mod storage;

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Weak};

use serde::{Deserialize, Serialize};

use crate::base64;
use crate::dtype::{DType, Scalar};
use crate::error::Diag;
use crate::ty::{Shape, Type};

use data::Data;
pub use data::Element;
pub use elements::Lender;
pub use pages::prefer_large_pages;
pub use position::unravel;
pub use storage::Remote;
use storage::Storage;

/// A dense row-major array. Cloning shares the elements; writing to shared elements copies them first.
///
/// ```
/// use graver_ir::Array;
/// let x = Array::from_vec([2, 3], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// assert_eq!(x.shape(), [2, 3]);
/// assert_eq!(x.to_f64(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
/// # Ok::<(), graver_ir::Diag>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawArray", into = "RawArray")]
pub struct Array {
    shape: Vec<usize>,
    data: Arc<Storage>,
}

/// Knows whether an array still has the elements that it had, without keeping them alive.
#[derive(Clone, Debug)]
pub struct Watch(Weak<Storage>);

impl Watch {
    /// Whether this is the array that was watched, or shares its elements, and nothing was written to them since.
    #[must_use]
    pub fn holds(&self, array: &Array) -> bool {
        // Elements that are watched are moved before they are written to, and their old place stays taken.
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&array.data))
    }
}

/// An array as it is serialized: base64 of its little-endian bytes, which keeps every bit where JSON numbers do not.
#[derive(Serialize, Deserialize)]
struct RawArray {
    dtype: DType,
    shape: Vec<usize>,
    base64: String,
}

impl From<Array> for RawArray {
    fn from(array: Array) -> Self {
        let mut base64 = String::new();
        base64::encode(array.bytes(), &mut base64);
        Self { dtype: array.dtype(), shape: array.shape, base64 }
    }
}

impl TryFrom<RawArray> for Array {
    type Error = String;

    fn try_from(raw: RawArray) -> Result<Self, String> {
        let bytes = base64::decode(&raw.base64).ok_or("no base64 digits")?;
        Self::from_bytes(raw.dtype, raw.shape, &bytes).map_err(|diag| diag.message)
    }
}

impl Array {
    /// An array of `shape` from its elements in row-major order.
    ///
    /// # Errors
    /// If the number of elements is not the product of the sizes.
    pub fn from_vec<E: Element>(shape: impl Into<Vec<usize>>, data: Vec<E>) -> Result<Self, Diag> {
        let shape = shape.into();
        let numel = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        if numel == Some(data.len()) {
            Ok(Self { shape, data: Arc::new(E::wrap(data).into()) })
        } else {
            Err(Diag::new(format!("an array of shape {shape:?} cannot be made of {} elements", data.len())).op("array"))
        }
    }

    /// A scalar.
    #[must_use]
    pub fn scalar<E: Element>(value: E) -> Self {
        Self { shape: Vec::new(), data: Arc::new(E::wrap(vec![value]).into()) }
    }

    /// An array of `shape` with every element `value`.
    #[must_use]
    pub fn full(shape: impl Into<Vec<usize>>, value: Scalar) -> Self {
        let shape = shape.into();
        let numel = shape.iter().product();
        Self { shape, data: Arc::new(Data::splat(value, numel).into()) }
    }

    /// An array of zeros, of sizes that the caller does not vouch for.
    ///
    /// ```
    /// use graver_ir::{Array, DType};
    /// assert_eq!(Array::zeroed(DType::F32, [2])?.to_f64(), [0.0, 0.0]);
    /// assert!(Array::zeroed(DType::F32, [1 << 60]).is_err());
    /// # Ok::<(), graver_ir::Diag>(())
    /// ```
    ///
    /// # Errors
    /// If there is not so much memory.
    pub fn zeroed(dtype: DType, shape: impl Into<Vec<usize>>) -> Result<Self, Diag> {
        let shape = shape.into();
        let numel = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        match numel.and_then(|numel| Data::zeroed(dtype, numel)) {
            Some(data) => Ok(Self { shape, data: Arc::new(data.into()) }),
            None => Err(Diag::new(format!("no memory for an array {dtype}{shape:?}"))),
        }
    }

    /// An array of `shape` whose element at each row-major position is `element(position)`, converted to `dtype`.
    #[must_use]
    pub fn from_fn(dtype: DType, shape: impl Into<Vec<usize>>, mut element: impl FnMut(usize) -> Scalar) -> Self {
        let mut array = Self::full(shape, Scalar::zero(dtype));
        let data = array.host_mut();
        for position in 0..data.len() {
            data.set(position, element(position));
        }
        array
    }

    /// An array of `shape` from its elements in row-major order, each converted to `dtype`.
    ///
    /// # Errors
    /// If the number of elements is not the product of the sizes.
    pub fn from_scalars(dtype: DType, shape: impl Into<Vec<usize>>, elements: &[Scalar]) -> Result<Self, Diag> {
        let shape = shape.into();
        if shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size)) == Some(elements.len()) {
            Ok(Self::from_fn(dtype, shape, |position| elements[position]))
        } else {
            Err(Diag::new(format!("an array of shape {shape:?} cannot be made of {} elements", elements.len())).op("array"))
        }
    }

    /// An array from little-endian bytes in row-major order.
    ///
    /// # Errors
    /// If the number of bytes does not fit, or a `bool` is neither 0 nor 1.
    pub fn from_bytes(dtype: DType, shape: impl Into<Vec<usize>>, bytes: &[u8]) -> Result<Self, Diag> {
        let shape = shape.into();
        let expected = shape.iter().try_fold(dtype.size(), |product, size| product.checked_mul(*size));
        if expected != Some(bytes.len()) {
            return Err(Diag::new(format!("an array {dtype}{shape:?} cannot be made of {} bytes", bytes.len())).op("array"));
        }
        if dtype == DType::Bool && bytes.iter().any(|byte| *byte > 1) {
            return Err(Diag::new("a bool is stored as the byte 0 or 1").op("array"));
        }
        let mut array = Self::full(shape, Scalar::zero(dtype));
        array.bytes_mut().copy_from_slice(bytes);
        Ok(array)
    }

    /// An array whose elements are some of a lender's little-endian bytes, in row-major order. They are not copied unless somebody writes to them,
    /// or they do not lie as elements do in memory.
    ///
    /// # Errors
    /// As [`Array::from_bytes`], or if the lender has no such bytes.
    pub fn from_lender(
        dtype: DType,
        shape: impl Into<Vec<usize>>,
        lender: &Arc<dyn Lender>,
        range: Range<usize>,
    ) -> Result<Self, Diag> {
        let shape = shape.into();
        let Some(bytes) = lender.bytes().get(range.clone()) else {
            return Err(Diag::new(format!("bytes {range:?} of {} cannot be an array", lender.bytes().len())).op("array"));
        };
        let expected = shape.iter().try_fold(dtype.size(), |product, size| product.checked_mul(*size));
        let lent = Data::lent(dtype, lender, range).filter(|_| cfg!(target_endian = "little") && expected == Some(bytes.len()));
        match lent {
            Some(data) => Ok(Self { shape, data: Arc::new(data.into()) }),
            None => Self::from_bytes(dtype, shape, bytes),
        }
    }

    /// The elements will not be read soon: where they are [lent](Lender), what could be had again need not stay in memory. Nothing else
    /// changes, and nothing at all for elements of its own.
    pub fn release(&self) {
        self.data.release();
    }

    /// Whether another array shares the elements, which are copied before one of them is written to.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.data) > 1
    }

    /// Tells later whether the elements are still the same.
    ///
    /// ```
    /// use graver_ir::Array;
    /// let mut x = Array::scalar(1.0f32);
    /// let watch = x.watch();
    /// assert!(watch.holds(&x) && watch.holds(&x.clone()) && !watch.holds(&Array::scalar(1.0f32)));
    /// x.bytes_mut().fill(0);
    /// assert!(!watch.holds(&x));
    /// ```
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch(Arc::downgrade(&self.data))
    }

    /// An array whose elements are a device's until somebody reads them; it has as many as `remote` holds.
    #[must_use]
    pub fn from_remote(dtype: DType, shape: impl Into<Vec<usize>>, remote: Box<dyn Remote>) -> Self {
        let shape = shape.into();
        let numel = shape.iter().product();
        Self { shape, data: Arc::new(Storage::remote_only(dtype, numel, remote)) }
    }

    /// The device's memory that holds the elements, if some of this kind does.
    #[must_use]
    pub fn remote<R: Remote>(&self) -> Option<&R> {
        let remote: &dyn Any = self.data.remote()?;
        remote.downcast_ref()
    }

    /// Remembers a device's copy of the elements, for as long as nobody writes to them here; no other, if one is remembered already.
    pub fn set_remote(&self, remote: Box<dyn Remote>) {
        self.data.set_remote(remote);
    }

    /// The elements are what the device's memory holds by now: what the host knew of them is forgotten. Nothing, if no device has them.
    ///
    /// Whoever writes there makes sure that nobody shares the elements.
    pub fn remote_written(&mut self) {
        Arc::make_mut(&mut self.data).forget_host();
    }

    /// Whether the host has the elements, so that reading them copies nothing.
    #[must_use]
    pub fn is_on_host(&self) -> bool {
        self.data.has_host()
    }

    /// Brings the elements to the host where only a device has them; whatever reads them then cannot fail.
    ///
    /// [`Array::bytes`], [`Array::to_f64`] and the like fetch by themselves, and panic where that fails.
    ///
    /// ```
    /// use graver_ir::Array;
    /// let y = Array::from_vec([2], vec![1.0f32, 2.0])?;
    /// assert_eq!(y.fetch()?.to_f64(), [1.0, 2.0]);
    /// # Ok::<(), graver_ir::Diag>(())
    /// ```
    ///
    /// # Errors
    /// If the device cannot give them, or the host has no memory for them. A later attempt may succeed.
    pub fn fetch(&self) -> Result<&Self, Diag> {
        self.data.fetch().map(|_| self)
    }

    fn host_mut(&mut self) -> &mut Data {
        Arc::make_mut(&mut self.data).host_mut()
    }

    /// The element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// The sizes.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The tensor type.
    #[must_use]
    pub fn ty(&self) -> Type {
        Type::new(self.dtype(), Shape::new(self.shape.iter().copied()))
    }

    /// The number of elements.
    #[must_use]
    pub fn numel(&self) -> usize {
        self.data.numel()
    }

    /// The elements, if they are of type `E`.
    #[must_use]
    pub fn as_slice<E: Element>(&self) -> Option<&[E]> {
        E::slice(self.data.host())
    }

    /// The elements for writing, if they are of type `E`.
    pub fn as_mut_slice<E: Element>(&mut self) -> Option<&mut [E]> {
        E::slice_mut(self.host_mut())
    }

    /// The elements as bytes in the machine's order.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.data.host().bytes()
    }

    /// The elements as bytes for writing. A `bool` must stay 0 or 1.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.host_mut().bytes_mut()
    }

    /// The element at a row-major position.
    ///
    /// # Panics
    /// If the position is not below [`Array::numel`].
    #[must_use]
    pub fn get(&self, position: usize) -> Scalar {
        self.data.host().get(position)
    }

    /// The elements as floats.
    #[must_use]
    pub fn to_f64(&self) -> Vec<f64> {
        self.data.host().to_f64()
    }

    /// The only element.
    ///
    /// # Errors
    /// If there is not exactly one, or as [`Array::fetch`].
    pub fn item(&self) -> Result<f64, Diag> {
        match self.numel() {
            1 => Ok(self.fetch()?.get(0).as_f64()),
            numel => Err(Diag::new(format!("item() of an array {} of {numel} elements", self.ty())).op("array")),
        }
    }

    /// The same elements in another shape.
    ///
    /// # Errors
    /// If the number of elements differs.
    pub fn reshape(&self, shape: impl Into<Vec<usize>>) -> Result<Self, Diag> {
        let shape = shape.into();
        if shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size)) == Some(self.numel()) {
            Ok(Self { shape, data: Arc::clone(&self.data) })
        } else {
            Err(Diag::new(format!("an array of shape {:?} cannot become {shape:?}", self.shape)).op("reshape"))
        }
    }

    /// Every element converted to `dtype`, as [`Scalar`] converts.
    #[must_use]
    pub fn cast(&self, dtype: DType) -> Self {
        if dtype == self.dtype() { self.clone() } else { Self::from_fn(dtype, self.shape.clone(), |position| self.get(position)) }
    }
}

impl fmt::Debug for Array {
    /// The type and at most eight elements, or why there are none to be read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [", self.ty())?;
        if let Err(diag) = self.fetch() {
            return write!(f, "{diag}]");
        }
        for position in 0..self.numel().min(8) {
            write!(f, "{}{}", if position > 0 { ", " } else { "" }, self.get(position))?;
        }
        f.write_str(if self.numel() > 8 { ", ..]" } else { "]" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip_and_bad_bytes_are_errors() {
        let x = Array::from_vec([2, 2], vec![1i32, -2, 3, 4]).expect("sizes agree");
        assert_eq!(Array::from_bytes(DType::I32, [2, 2], x.bytes()), Ok(x.clone()));
        assert!(Array::from_bytes(DType::I32, [2, 3], x.bytes()).is_err());
        assert!(Array::from_bytes(DType::Bool, [1], &[2]).is_err());
        assert!(Array::from_vec([usize::MAX, 3], vec![0u8]).is_err());
    }

    /// A device that gives its elements at the second time of asking.
    #[derive(Debug)]
    struct Late(std::sync::atomic::AtomicUsize);

    impl Remote for Late {
        fn read(&self, to: &mut [u8]) -> Result<(), Diag> {
            to.fill(1);
            let asked = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if asked == 0 { Err(Diag::new("the device is late")) } else { Ok(()) }
        }
    }

    #[test]
    fn a_device_that_gives_nothing_is_an_error_and_may_be_asked_again() {
        let late = || Array::from_remote(DType::U8, [1], Box::new(Late(0.into())));
        for read in [|x: &Array| x.item().map(drop), |x: &Array| x.fetch().map(drop)] {
            let x = late();
            assert_eq!(read(&x), Err(Diag::new("the device is late")));
            assert_eq!((x.is_on_host(), x.item(), x.is_on_host()), (false, Ok(1.0), true));
        }
        assert_eq!(format!("{:?}", late()), "u8[1] [the device is late]");
        let panic = std::panic::catch_unwind(|| late().to_f64()).expect_err("there is nothing to give");
        let said = panic.downcast_ref::<String>().expect("it is said");
        assert!(said.contains("the device is late") && said.contains("`Array::fetch`"), "{said}");
    }

    #[test]
    fn casts_saturate() {
        let x = Array::from_vec([3], vec![-1.5f32, 300.0, f32::NAN]).expect("sizes agree");
        assert_eq!(x.cast(DType::U8).as_slice::<u8>(), Some([0, 255, 0].as_slice()));
    }
}
