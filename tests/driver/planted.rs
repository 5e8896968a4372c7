//! What the fake driver is for: faults of whoever calls it, planted here one by one, each in a process of its own since some of them stick.

use std::ffi::{CString, c_char, c_void};
use std::ptr::{null, null_mut};

use graver::prelude::*;
use libloading::Symbol;

use crate::fake::{Cache, Counts, Driver, Live, in_a_process};

const SUCCESS: i32 = 0;
const INVALID_VALUE: i32 = 1;
const NOT_INITIALIZED: i32 = 3;
const INVALID_DEVICE: i32 = 101;
const INVALID_CONTEXT: i32 = 201;
const INVALID_HANDLE: i32 = 400;
const ILLEGAL_ADDRESS: i32 = 700;
const UNSUPPORTED_IN_CAPTURE: i32 = 900;
const CAPTURE_INVALIDATED: i32 = 901;

type Handle = *mut c_void;
/// A function, its grid and block, shared memory, a stream, parameters.
type Launch = unsafe extern "C" fn(Handle, u32, u32, u32, u32, u32, u32, u32, Handle, *mut *mut c_void, *mut *mut c_void) -> i32;

/// The functions of the driver that are misused here, as the real one declares them.
struct Api<'d> {
    init: Symbol<'d, unsafe extern "C" fn(u32) -> i32>,
    retain: Symbol<'d, unsafe extern "C" fn(*mut Handle, i32) -> i32>,
    set_current: Symbol<'d, unsafe extern "C" fn(Handle) -> i32>,
    alloc: Symbol<'d, unsafe extern "C" fn(*mut u64, usize) -> i32>,
    free: Symbol<'d, unsafe extern "C" fn(u64) -> i32>,
    alloc_pinned: Symbol<'d, unsafe extern "C" fn(*mut Handle, usize, u32) -> i32>,
    free_pinned: Symbol<'d, unsafe extern "C" fn(Handle) -> i32>,
    copy_in: Symbol<'d, unsafe extern "C" fn(u64, *const c_void, usize, Handle) -> i32>,
    copy_out: Symbol<'d, unsafe extern "C" fn(Handle, u64, usize) -> i32>,
    set: Symbol<'d, unsafe extern "C" fn(u64, u8, usize, Handle) -> i32>,
    stream: Symbol<'d, unsafe extern "C" fn(*mut Handle, u32) -> i32>,
    destroy: Symbol<'d, unsafe extern "C" fn(Handle) -> i32>,
    wait: Symbol<'d, unsafe extern "C" fn(Handle) -> i32>,
    begin: Symbol<'d, unsafe extern "C" fn(Handle, i32) -> i32>,
    end: Symbol<'d, unsafe extern "C" fn(Handle, *mut Handle) -> i32>,
    instantiate: Symbol<'d, unsafe extern "C" fn(*mut Handle, Handle, u64) -> i32>,
    destroy_graph: Symbol<'d, unsafe extern "C" fn(Handle) -> i32>,
    destroy_instance: Symbol<'d, unsafe extern "C" fn(Handle) -> i32>,
    load: Symbol<'d, unsafe extern "C" fn(*mut Handle, *const c_void) -> i32>,
    unload: Symbol<'d, unsafe extern "C" fn(Handle) -> i32>,
    function: Symbol<'d, unsafe extern "C" fn(*mut Handle, Handle, *const c_char) -> i32>,
    grant: Symbol<'d, unsafe extern "C" fn(Handle, i32, i32) -> i32>,
    launch: Symbol<'d, Launch>,
    synchronize: Symbol<'d, unsafe extern "C" fn() -> i32>,
}

impl<'d> Api<'d> {
    fn of(driver: &'d Driver) -> Self {
        macro_rules! find {
            ($name:literal) => {
                // SAFETY: `cuda.cpp` declares each of them so, as the real driver does.
                unsafe { driver.cuda().get($name) }.expect("the fake has it")
            };
        }
        Self {
            init: find!(b"cuInit"),
            retain: find!(b"cuDevicePrimaryCtxRetain"),
            set_current: find!(b"cuCtxSetCurrent"),
            alloc: find!(b"cuMemAlloc_v2"),
            free: find!(b"cuMemFree_v2"),
            alloc_pinned: find!(b"cuMemHostAlloc"),
            free_pinned: find!(b"cuMemFreeHost"),
            copy_in: find!(b"cuMemcpyHtoDAsync_v2"),
            copy_out: find!(b"cuMemcpyDtoH_v2"),
            set: find!(b"cuMemsetD8Async"),
            stream: find!(b"cuStreamCreate"),
            destroy: find!(b"cuStreamDestroy_v2"),
            wait: find!(b"cuStreamSynchronize"),
            begin: find!(b"cuStreamBeginCapture_v2"),
            end: find!(b"cuStreamEndCapture"),
            instantiate: find!(b"cuGraphInstantiateWithFlags"),
            destroy_graph: find!(b"cuGraphDestroy"),
            destroy_instance: find!(b"cuGraphExecDestroy"),
            load: find!(b"cuModuleLoadData"),
            unload: find!(b"cuModuleUnload"),
            function: find!(b"cuModuleGetFunction"),
            grant: find!(b"cuFuncSetAttribute"),
            launch: find!(b"cuLaunchKernel"),
            synchronize: find!(b"cuCtxSynchronize"),
        }
    }

    /// Makes the context the thread's.
    fn begin_work(&self) {
        let mut context = null_mut();
        // SAFETY: the pointer is a local's.
        let codes = unsafe { [(self.init)(0), (self.retain)(&raw mut context, 0), (self.set_current)(context)] };
        assert_eq!(codes, [SUCCESS; 3]);
    }

    /// Memory and a stream.
    fn memory(&self, bytes: usize) -> (u64, Handle) {
        let (mut address, mut stream) = (0, null_mut());
        // SAFETY: the pointers are locals'; a stream that does not wait for the null stream is asked for.
        let codes = unsafe { [(self.alloc)(&raw mut address, bytes), (self.stream)(&raw mut stream, 1)] };
        assert_eq!(codes, [SUCCESS; 2]);
        (address, stream)
    }
}

/// Runs a fault in a process of its own.
fn planted(test: &str, fault: impl FnOnce(&Api<'_>, &dyn Fn() -> Counts)) {
    in_a_process(&format!("planted::{test}"), Cache::Kept, |driver| fault(&Api::of(driver), &|| driver.counts()));
}

#[test]
fn memory_freed_under_pending_work() {
    planted("memory_freed_under_pending_work", |api, _| {
        api.begin_work();
        let (address, stream) = api.memory(1000);
        // SAFETY: the fake only notes what is to be done.
        unsafe {
            assert_eq!([(api.set)(address, 0, 1000, stream), (api.free)(address)], [SUCCESS; 2]);
            assert_eq!((api.wait)(stream), ILLEGAL_ADDRESS);
            // As a real one does, it stays broken.
            assert_eq!((api.alloc)(&mut 0, 8), ILLEGAL_ADDRESS);
        }
    });
}

#[test]
fn a_source_that_goes_before_it_is_copied() {
    planted("a_source_that_goes_before_it_is_copied", |api, _| {
        api.begin_work();
        let (address, stream) = api.memory(64);
        let mut pinned = null_mut();
        // SAFETY: the pointer is a local's, and the fake looks whether memory is there before it reads it.
        unsafe {
            assert_eq!((api.alloc_pinned)(&raw mut pinned, 64, 0), SUCCESS);
            assert_eq!([(api.copy_in)(address, pinned, 64, stream), (api.free_pinned)(pinned)], [SUCCESS; 2]);
            assert_eq!((api.wait)(stream), ILLEGAL_ADDRESS);
        }
    });
}

#[test]
fn a_byte_written_beside_an_allocation() {
    planted("a_byte_written_beside_an_allocation", |api, _| {
        api.begin_work();
        let (address, _) = api.memory(100);
        // SAFETY: the fake's memory is the host's, between guards that are its own.
        unsafe {
            (address as *mut u8).add(100).write(7);
            assert_eq!((api.free)(address), ILLEGAL_ADDRESS);
        }
    });
}

#[test]
fn calls_in_a_wrong_order() {
    planted("calls_in_a_wrong_order", |api, _| {
        let (mut address, mut context) = (0, null_mut());
        // SAFETY: the pointers are locals'.
        unsafe {
            assert_eq!((api.alloc)(&raw mut address, 8), NOT_INITIALIZED);
            assert_eq!([(api.init)(0), (api.retain)(&raw mut context, 0)], [SUCCESS; 2]);
            assert_eq!((api.alloc)(&raw mut address, 8), INVALID_CONTEXT);
            assert_eq!((api.set_current)(context), SUCCESS);
            assert_eq!((api.alloc)(&raw mut address, 8), SUCCESS);
            assert_eq!((api.copy_out)([0u8; 16].as_mut_ptr().cast(), address, 16), INVALID_VALUE);
            assert_eq!([(api.free)(address), (api.free)(address)], [SUCCESS, INVALID_VALUE]);
            assert_eq!((api.copy_out)([0u8; 8].as_mut_ptr().cast(), address, 8), INVALID_VALUE);
            let mut stream = null_mut();
            assert_eq!([(api.stream)(&raw mut stream, 1), (api.destroy)(stream)], [SUCCESS; 2]);
            assert_eq!([(api.destroy)(stream), (api.wait)(stream)], [INVALID_HANDLE; 2]);
            assert_ne!((api.load)(&mut null_mut(), [0u8; 64].as_ptr().cast()), SUCCESS);
        }
    });
}

#[test]
fn memory_asked_for_while_a_stream_records() {
    planted("memory_asked_for_while_a_stream_records", |api, _| {
        api.begin_work();
        let (_, stream) = api.memory(8);
        let mut graph = null_mut();
        // SAFETY: the pointers are locals'.
        unsafe {
            assert_eq!((api.begin)(stream, 0), SUCCESS);
            assert_eq!((api.alloc)(&mut 0, 8), UNSUPPORTED_IN_CAPTURE);
            assert_eq!((api.end)(stream, &raw mut graph), CAPTURE_INVALIDATED);
        }
        assert_eq!(graph.cast_const(), null());
    });
}

/// As `cuda.h` numbers them: whether other threads, too, may do nothing that would end a capture.
const FOR_ALL: i32 = 0;
const FOR_ITS_THREAD: i32 = 1;

/// Does something in another thread while a stream of this one records, for its thread alone; what the end of the capture says.
pub(crate) fn while_a_stream_records(driver: &Driver, work: impl FnOnce() + Send) -> i32 {
    while_a_stream_records_for(FOR_ITS_THREAD, driver, work)
}

fn while_a_stream_records_for(mode: i32, driver: &Driver, work: impl FnOnce() + Send) -> i32 {
    let api = Api::of(driver);
    api.begin_work();
    let (mut stream, mut graph) = (null_mut(), null_mut());
    // SAFETY: the pointers are locals'; a stream that does not wait for the null stream is asked for.
    unsafe {
        assert_eq!([(api.stream)(&raw mut stream, 1), (api.begin)(stream, mode)], [SUCCESS; 2]);
        std::thread::scope(|scope| drop(scope.spawn(work)));
        (api.end)(stream, &raw mut graph)
    }
}

#[test]
fn a_context_waited_for_while_another_thread_records() {
    in_a_process("planted::a_context_waited_for_while_another_thread_records", Cache::Kept, |driver| {
        let wait = || {
            let api = Api::of(driver);
            api.begin_work();
            // SAFETY: it asks nothing of its caller.
            assert_eq!(unsafe { (api.synchronize)() }, UNSUPPORTED_IN_CAPTURE);
        };
        assert_eq!(while_a_stream_records(driver, wait), CAPTURE_INVALIDATED);
        // SAFETY: as above.
        assert_eq!(unsafe { (Api::of(driver).synchronize)() }, SUCCESS);
    });
}

#[test]
fn memory_asked_for_while_another_thread_records() {
    in_a_process("planted::memory_asked_for_while_another_thread_records", Cache::Kept, |driver| {
        for (mode, asked, ended) in [(FOR_ITS_THREAD, SUCCESS, SUCCESS), (FOR_ALL, UNSUPPORTED_IN_CAPTURE, CAPTURE_INVALIDATED)] {
            let ask = || {
                let api = Api::of(driver);
                api.begin_work();
                // SAFETY: the pointer is a local's.
                assert_eq!(unsafe { (api.alloc)(&mut 0, 8) }, asked);
            };
            assert_eq!(while_a_stream_records_for(mode, driver, ask), ended);
        }
    });
}

/// A graph would find there whatever is there when it is replayed, if anything.
#[test]
fn memory_that_is_not_pinned_copied_while_a_stream_records() {
    planted("memory_that_is_not_pinned_copied_while_a_stream_records", |api, _| {
        api.begin_work();
        let ((address, stream), own) = (api.memory(8), [0u8; 8]);
        let (mut pinned, mut graph) = (null_mut(), null_mut());
        // SAFETY: the pointers are locals', and live until the stream was waited for.
        unsafe {
            assert_eq!((api.alloc_pinned)(&raw mut pinned, 8, 0), SUCCESS);
            assert_eq!([(api.copy_in)(address, own.as_ptr().cast(), 8, stream), (api.wait)(stream)], [SUCCESS; 2]);
            for (from, copied, ended) in
                [(pinned.cast_const(), SUCCESS, SUCCESS), (own.as_ptr().cast(), UNSUPPORTED_IN_CAPTURE, CAPTURE_INVALIDATED)]
            {
                assert_eq!([(api.begin)(stream, 1), (api.copy_in)(address, from, 8, stream)], [SUCCESS, copied]);
                assert_eq!((api.end)(stream, &raw mut graph), ended);
            }
        }
    });
}

#[test]
fn what_is_another_gpus() {
    in_a_process("planted::what_is_another_gpus", Cache::Fresh, |driver| {
        driver.gpus(2);
        let ((code, name), api) = (machine_code(driver), Api::of(driver));
        let (mut contexts, mut module, mut function) = ([null_mut(); 2], null_mut(), null_mut());
        // SAFETY: the pointers are locals', and the kernel is never run.
        unsafe {
            for (number, context) in (0..).zip(&mut contexts) {
                assert_eq!((api.retain)(context, number), SUCCESS);
            }
            assert_eq!((api.retain)(&mut null_mut(), 2), INVALID_DEVICE);
            assert_eq!((api.set_current)(contexts[0]), SUCCESS);
            let (address, stream) = api.memory(8);
            assert_eq!((api.load)(&raw mut module, code.as_ptr().cast()), SUCCESS);
            assert_eq!((api.function)(&raw mut function, module, name.as_ptr()), SUCCESS);
            assert_eq!((api.set_current)(contexts[1]), SUCCESS);
            let (_, own) = api.memory(8);
            assert_eq!([(api.set)(address, 0, 8, own), (api.free)(address)], [INVALID_VALUE; 2]);
            assert_eq!((api.copy_out)([0u8; 8].as_mut_ptr().cast(), address, 8), INVALID_VALUE);
            let launch = |stream: Handle| (api.launch)(function, 1, 1, 1, 32, 1, 1, 0, stream, null_mut(), null_mut());
            assert_eq!([(api.wait)(stream), launch(stream), launch(own), (api.unload)(module)], [INVALID_CONTEXT; 4]);
        }
    });
}

#[test]
fn what_is_not_let_go_of() {
    planted("what_is_not_let_go_of", |api, counts| {
        api.begin_work();
        let _ = api.memory(24);
        assert_eq!(counts().live, Live { allocations: 1, bytes: 24, streams: 1, contexts: 1, ..Live::default() });
    });
}

/// Machine code that graver left in its cache, and the name of a kernel in it.
fn machine_code(driver: &Driver) -> (Vec<u8>, CString) {
    let double =
        compile(|x: Tensor| x * 2.0, spec::<f32>(["n"]), &cuda(0).expect("there is a driver")).expect("it is well typed");
    drop(double);
    let file = std::fs::read_dir(driver.cubins()).expect("it was made").next().expect("one was written").expect("it can be read");
    let code = std::fs::read(file.path()).expect("it can be read");
    let mark = b"fake_run_";
    let at = code.windows(mark.len()).position(|bytes| bytes == mark).expect("it has a kernel") + mark.len();
    let name: Vec<u8> = code[at..].iter().copied().take_while(|byte| *byte != 0).collect();
    (code, CString::new(name).expect("a word"))
}

#[test]
fn kernels_of_a_module_that_is_gone_and_more_memory_than_was_granted() {
    let test = "planted::kernels_of_a_module_that_is_gone_and_more_memory_than_was_granted";
    in_a_process(test, Cache::Fresh, |driver| {
        let ((code, name), api) = (machine_code(driver), Api::of(driver));
        api.begin_work();
        let (address, stream) = api.memory(64);
        let (mut module, mut function, mut values) = (null_mut(), null_mut(), [address; 16]);
        let mut parameters = values.each_mut().map(|value| (&raw mut *value).cast::<c_void>());
        // SAFETY: the pointers are locals'; the kernel has fewer parameters, all of 8 bytes at most, and is never run.
        unsafe {
            assert_eq!((api.load)(&raw mut module, code.as_ptr().cast()), SUCCESS);
            assert_eq!((api.function)(&raw mut function, module, name.as_ptr()), SUCCESS);
            let mut launch =
                |shared: u32| (api.launch)(function, 1, 1, 1, 32, 1, 1, shared, stream, parameters.as_mut_ptr(), null_mut());
            // 48 KiB without being asked for, and what a block of an H100 has at most.
            assert_eq!(launch(50_000), INVALID_VALUE);
            assert_eq!([(api.grant)(function, 8, 300_000), (api.grant)(function, 8, 50_000)], [INVALID_VALUE, SUCCESS]);
            assert_eq!([launch(50_000), launch(50_001)], [SUCCESS, INVALID_VALUE]);
            assert_eq!([(api.unload)(module), (api.wait)(stream)], [SUCCESS, ILLEGAL_ADDRESS]);
            assert_eq!([(api.unload)(module), (api.grant)(function, 8, 0)], [ILLEGAL_ADDRESS; 2]);
        }
    });
}

#[test]
fn a_module_unloaded_under_a_graph() {
    in_a_process("planted::a_module_unloaded_under_a_graph", Cache::Fresh, |driver| {
        let ((code, name), api) = (machine_code(driver), Api::of(driver));
        api.begin_work();
        let (address, stream) = api.memory(64);
        let (mut module, mut function, mut values) = (null_mut(), null_mut(), [address; 16]);
        let (mut graph, mut instance) = (null_mut(), null_mut());
        let mut parameters = values.each_mut().map(|value| (&raw mut *value).cast::<c_void>());
        // SAFETY: the pointers are locals'; the kernel has fewer parameters, all of 8 bytes at most, and is never run.
        unsafe {
            let codes = [
                (api.load)(&raw mut module, code.as_ptr().cast()),
                (api.function)(&raw mut function, module, name.as_ptr()),
                (api.begin)(stream, 1),
                (api.launch)(function, 1, 1, 1, 32, 1, 1, 0, stream, parameters.as_mut_ptr(), null_mut()),
                (api.end)(stream, &raw mut graph),
                (api.instantiate)(&raw mut instance, graph, 0),
                (api.destroy_graph)(graph),
            ];
            assert_eq!(codes, [SUCCESS; 7]);
            assert_eq!((api.unload)(module), INVALID_VALUE);
            assert_eq!([(api.destroy_instance)(instance), (api.unload)(module)], [SUCCESS; 2]);
        }
    });
}
