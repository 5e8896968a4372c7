//! What goes wrong is an ordinary error that says what to do, and everything works afterwards.

use std::collections::BTreeSet;
use std::sync::Arc;

use graver::ir::kernel::Program;
use graver::ir::{Diag, Remote};
use graver::prelude::*;
use graver::runtime::{Backend, Invocation, Stage};
use graver::trace::named_slot;
use graver_cuda::{Cuda, DRIVER_FUNCTIONS, Nvrtc, check_architecture};

use crate::fake::{Live, functions, with_broken_driver, with_old_driver, with_two_nvrtcs};
use crate::{Cache, with_driver};

fn gpu() -> Device {
    cuda(0).expect("there is a driver")
}

#[test]
fn too_little_memory() {
    with_driver("errors::too_little_memory", Cache::Kept, |driver| {
        let outer = compile(|x: Tensor| x.unsqueeze(0) * x.unsqueeze(1), spec::<f32>(["n"]), &gpu()).expect("it is well typed");
        let x = |len: usize| Array::full([len], Scalar::float(DType::F32, 3.0));
        assert_eq!(outer.call(&x(10)).expect("it fits").to_f64(), vec![9.0; 100]);
        driver.limit(driver.counts().live.bytes + (3 << 19));
        let error = outer.call(&x(1000)).expect_err("4 MB are too much").to_string();
        for word in ["no memory for 4000000 bytes", "are left", "make the batch smaller"] {
            assert!(error.contains(word), "{error}");
        }
        assert_eq!(outer.call(&x(10)).expect("it fits").to_f64(), vec![9.0; 100]);
        // What lies idle is given back before that is said: many sizes, each of which fits alone.
        let sizes = [300, 350, 400, 450, 500, 420];
        sizes.iter().for_each(|len| drop(outer.call(&x(*len)).expect("it fits alone")));
    });
}

#[test]
fn a_failing_check_names_the_line_and_leaves_the_state() {
    with_driver("errors::a_failing_check_names_the_line_and_leaves_the_state", Cache::Kept, |_| {
        let model = Linear::new(4, 3).init(&mut Init::seed(0));
        let inputs = (spec::<f32>(("n", 4)), spec::<i64>(["n"]));
        let step = train_step(&model, Sgd::new(0.1), inputs, |m, (x, y)| m.forward(x).cross_entropy(y));
        let mut step = step.compile(&gpu()).expect("it is well typed");
        let x = Array::from_vec([2, 4], vec![0.5f32; 8]).expect("sizes agree");
        let labels = |labels: [i64; 2]| Array::from_vec([2], labels.to_vec()).expect("sizes agree");
        let values = |step: &Step<_, Tensor>| step.state().entries().map(|entry| entry.value.to_f64()).collect::<Vec<_>>();
        // Launch by launch, and as a graph.
        for _ in 0..3 {
            step.run((&x, &labels([0, 2]))).expect("labels are in range");
            let before = values(&step);
            let error = step.run((&x, &labels([0, 3]))).expect_err("there is no class 3").to_string();
            assert!(error.contains("errors.rs"), "{error}");
            assert_eq!(values(&step), before);
        }
    });
}

/// A step that fails in the driver's hands may have written the state: who reads it reads what the next step goes on from.
#[test]
fn state_after_a_drivers_error_is_what_the_gpu_has() {
    with_driver("errors::state_after_a_drivers_error_is_what_the_gpu_has", Cache::Kept, |driver| {
        let sum = graver::trace::step(spec::<f32>([2]), |x: Tensor| {
            let sum = named_slot("sum", || Array::full([2], Scalar::zero(DType::F32)));
            sum.set(sum.get() + x);
            sum.get()
        });
        let mut sum = sum.compile(&gpu()).expect("it is well typed");
        let x = Array::from_vec([2], vec![1.0f32, 2.0]).expect("sizes agree");
        let value = |step: &Step<_, Tensor>| step.state().at("optim.sum").expect("it is there").to_f64();
        // After the launches, and before any of them.
        for (function, written) in [("cuMemcpyDtoHAsync_v2", 1.0), ("cuGraphLaunch", 0.0)] {
            (0..2).for_each(|_| drop(sum.run(&x).expect("nothing fails")));
            let before = value(&sum);
            driver.fail(function, 0, 999);
            let error = sum.run(&x).expect_err("it is refused").to_string();
            assert!(error.contains("CUDA_ERROR_UNKNOWN"), "{error}");
            let after = value(&sum);
            assert_eq!(after, [before[0] + written, before[1] + 2.0 * written], "{function}");
            sum.run(&x).expect("it is refused once");
            assert_eq!(value(&sum), [after[0] + 1.0, after[1] + 2.0], "{function}");
        }
    });
}

/// Two slots, each written by a launch of its own: of a step that ends between them there is nothing to go on from.
#[test]
fn state_that_was_written_in_part_is_refused_until_it_is_set_anew() {
    with_driver("errors::state_that_was_written_in_part_is_refused_until_it_is_set_anew", Cache::Kept, |driver| {
        let device = gpu();
        let sums = || {
            let sums = graver::trace::step((spec::<f32>([2]), spec::<f32>([3])), |(x, y): (Tensor, Tensor)| {
                for (name, x, len) in [("first", x, 2), ("second", y, 3)] {
                    let sum = named_slot(name, || Array::full([len], Scalar::zero(DType::F32)));
                    sum.set(sum.get() + x);
                }
                x * 2.0
            });
            sums.compile(&device).expect("it is well typed")
        };
        let (x, y) = (ones(2), ones(3));
        let at = |step: &Step<_, Tensor>, path: &str| step.state().at(path).expect("it is there").clone();
        let values = |step: &Step<_, Tensor>| PATHS.map(|path| at(step, path).to_f64());
        let restored = |step: &mut Step<_, Tensor>| {
            for path in PATHS {
                let error = at(step, path).fetch().expect_err("nobody knows it").to_string();
                assert!(
                    error.starts_with(&format!("`{path}` is undefined: a call of `main` failed between its writes")),
                    "{error}"
                );
            }
            for (path, len) in PATHS.into_iter().zip([2, 3]) {
                let error = step.run((&x, &y)).expect_err("it is refused").to_string();
                assert!(error.contains(&format!("`{path}` is undefined")) && error.contains("set it anew"), "{error}");
                step.state_mut().set(path, ones(len)).expect("it is of the type");
            }
            step.run((&x, &y)).expect("all of it is set anew");
            assert_eq!(values(step), [vec![2.0; 2], vec![2.0; 3]]);
        };
        let told = |error: Error| error.to_string().contains("ended between its writes to the state, which is undefined now");
        let mut torn = Vec::new();
        for after in 0.. {
            let mut step = sums();
            driver.fail("cuLaunchKernel", after, 999);
            let Err(error) = step.run((&x, &y)) else { break };
            assert!(error.to_string().contains("CUDA_ERROR_UNKNOWN"), "{error}");
            torn.push(told(error));
            if torn.last() == Some(&true) {
                restored(&mut step);
            } else {
                // Nothing of it was written, or, where only a result is missing, all.
                let each = if torn.len() == 1 { 0.0 } else { 1.0 };
                assert_eq!(values(&step), [vec![each; 2], vec![each; 3]]);
                step.run((&x, &y)).expect("it is refused once");
                assert_eq!(values(&step), [vec![each + 1.0; 2], vec![each + 1.0; 3]]);
            }
        }
        driver.fail("cuLaunchKernel", 0, 0);
        assert_eq!(torn, [false, true, false]);
        // All was launched, and nobody knows whether it was done; as a graph, too.
        for runs in [1, 4] {
            let mut step = sums();
            (0..runs).for_each(|_| drop(step.run((&x, &y)).expect("nothing fails")));
            driver.fail("cuStreamSynchronize", 0, 999);
            assert!(told(step.run((&x, &y)).expect_err("it is refused")));
            restored(&mut step);
        }
    });
}

/// Of the state of two sums.
const PATHS: [&str; 2] = ["optim.first", "optim.second"];

fn ones(len: usize) -> Array {
    Array::full([len], Scalar::float(DType::F32, 1.0))
}

/// Functions whose failure nobody has to hear of: what lets go of something, and what makes a graph of a call, which runs
/// launch by launch where that fails.
const HARMLESS: &[&str] = &[
    "cuStreamBeginCapture_v2",
    "cuStreamEndCapture",
    "cuGraphInstantiateWithFlags",
    "cuModuleUnload",
    "cuStreamDestroy_v2",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuMemFree_v2",
    "cuMemFreeHost",
    "cuDevicePrimaryCtxRelease_v2",
];

/// Functions that are called where another one has failed, to say more; each has a test of its own.
const IN_ERRORS: &[&str] = &["cuGetErrorString", "cuGetErrorName", "cuMemGetInfo_v2"];

/// Asks all of the driver's functions, from its start on; what the calls gave.
pub(crate) fn ask_all() -> Result<Vec<f64>, Error> {
    let device = cuda(0)?;
    let known = Array::from_vec([2, 2], vec![1.0f32, 2.0, 3.0, 4.0])?;
    let product = |x: Tensor| x.matmul(graver::trace::constant_array(&known));
    let product = compile(product, spec::<f32>(("n", 2)), &device)?;
    // Its rows ask for shared memory.
    compile(|x: Tensor| x.softmax(-1), spec::<f32>(("n", "m")), &device)?;
    let sum = graver::trace::step(spec::<f32>([2]), |x: Tensor| {
        let sum = named_slot("sum", || Array::full([2], Scalar::zero(DType::F32)));
        sum.set(sum.get() + x);
        sum.get()
    });
    let mut sum = sum.compile(&device)?;
    let (x, y) = (Array::from_vec([2, 2], vec![1.0f32; 4])?, Array::from_vec([2], vec![1.0f32; 2])?);
    let mut results = (0..4).map(|_| product.call(&x)).collect::<Result<Vec<Array>, Error>>()?;
    results.push(sum.run(&y)?);
    // What somebody else holds is moved away from.
    let before = sum.state().clone();
    results.push(sum.run(&y)?);
    results.extend(before.entries().map(|entry| entry.value.clone()));
    results.iter().try_for_each(|result| result.fetch().map(drop))?;
    Ok(results.iter().flat_map(Array::to_f64).collect())
}

/// Of each of the driver's functions the first, the second and the fourth call fail, one at a time: what was begun is let go of, and the next attempt succeeds.
#[test]
fn whatever_the_driver_refuses_once_works_the_next_time() {
    with_driver("errors::whatever_the_driver_refuses_once_works_the_next_time", Cache::Kept, |driver| {
        let all: Vec<&str> = functions().collect();
        assert!(HARMLESS.iter().chain(IN_ERRORS).all(|name| all.contains(name)), "{all:?}");
        let expected = ask_all().expect("nothing fails");
        for function in all.into_iter().filter(|name| !IN_ERRORS.contains(name)) {
            let (mut failed, mut told) = (0, 0);
            for after in [0, 1, 3] {
                driver.fail(function, after, 999);
                let results = ask_all().or_else(|error| {
                    assert!(error.to_string().contains("CUDA_ERROR_UNKNOWN"), "{function}: {error}");
                    told += 1;
                    ask_all()
                });
                assert_eq!(results.unwrap_or_else(|error| panic!("{function}: {error}")), expected, "{function}");
                failed += 1 - driver.failures();
                driver.fail(function, 0, 0);
            }
            assert!(failed > 0, "{function} is never called");
            assert_eq!(told > 0, !HARMLESS.contains(&function), "{function}: {told} of {failed} failures were told");
            assert_eq!(driver.counts().live, Live::default(), "{function}");
        }
    });
}

#[test]
fn what_says_more_of_an_error_may_fail_itself() {
    with_driver("errors::what_says_more_of_an_error_may_fail_itself", Cache::Kept, |driver| {
        let double = compile(|x: Tensor| x * 2.0, spec::<f32>(["n"]), &gpu()).expect("it is well typed");
        let x = Array::full([1 << 20], Scalar::float(DType::F32, 1.0));
        let error = || double.call(&x).expect_err("it is refused").to_string();
        driver.fail("cuStreamCreate", 0, 999);
        driver.fail("cuGetErrorString", 0, 999);
        assert!(error().contains("the GPU gives no stream: an unknown error (CUDA_ERROR_UNKNOWN)"));
        driver.limit(driver.counts().live.bytes + 4096);
        driver.fail("cuMemGetInfo_v2", 0, 999);
        let error = error();
        assert!(error.contains("no memory for 4194304 bytes on the GPU: out of memory (CUDA_ERROR_OUT_OF_MEMORY)"), "{error}");
        assert_eq!(driver.failures(), 0);
    });
}

/// A newer driver may have errors that nobody here knows, nor it itself.
#[test]
fn errors_that_nobody_knows() {
    with_driver("errors::errors_that_nobody_knows", Cache::Kept, |driver| {
        let double = compile(|x: Tensor| x * 2.0, spec::<f32>(["n"]), &gpu()).expect("it is well typed");
        for code in [12_345, -7, i32::MAX] {
            driver.fail("cuStreamCreate", 0, code);
            let error = double.call(&ones(3)).expect_err("it is refused").to_string();
            assert!(error.contains(&format!("the GPU gives no stream: an unknown error (error {code})")), "{error}");
        }
        assert_eq!(double.call(&ones(1)).expect("it is refused no more").to_f64(), [2.0]);
    });
}

/// A result that cannot be read is an error wherever one can be told, and may be asked for again.
#[test]
fn a_result_that_cannot_be_read() {
    with_driver("errors::a_result_that_cannot_be_read", Cache::Kept, |driver| {
        let (device, x) = (gpu(), Array::from_vec([1], vec![3.0f32]).expect("sizes agree"));
        let double = compile(|x: Tensor| x * 2.0, spec::<f32>([1]), &device).expect("it is well typed");
        let elsewhere = compile(|x: Tensor| x + 1.0, spec::<f32>([1]), &cpu_with_threads(1)).expect("it is well typed");
        let refused = |read: &dyn Fn(&Array) -> Result<(), Error>| {
            let y = double.call(&x).expect("it fits");
            driver.fail("cuMemcpyDtoH_v2", 0, 999);
            let error = read(&y).expect_err("the driver refuses").to_string();
            assert!(error.contains("an array cannot be copied from the GPU") && error.contains("CUDA_ERROR_UNKNOWN"), "{error}");
            assert_eq!(y.item().expect("it refuses once"), 6.0);
        };
        refused(&|y| Ok(y.item().map(drop)?));
        refused(&|y| Ok(y.fetch().map(drop)?));
        refused(&|y| {
            let arrays = [("y".to_owned(), y.clone())].into();
            graver::runtime::Checkpoint { arrays, ..Default::default() }.to_bytes().map(drop)
        });
        // As an argument of another device's.
        refused(&|y| elsewhere.call(y).map(drop));
        // Where a signature has no room for an error the panic names the way that has.
        let y = double.call(&x).expect("it fits");
        driver.fail("cuMemcpyDtoH_v2", 0, 999);
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| y.to_f64())).expect_err("the driver refuses");
        let said = panic.downcast_ref::<String>().expect("it is said");
        assert!(said.contains("CUDA_ERROR_UNKNOWN") && said.contains("`Array::fetch`"), "{said}");
        driver.fail("cuMemcpyDtoH_v2", 0, 999);
        assert!(format!("{y:?}").contains("cannot be copied"), "{y:?}");
        assert_eq!(y.to_f64(), [6.0]);
    });
}

/// Memory of a device that gives nothing back.
#[derive(Debug)]
struct Lost;

impl Remote for Lost {
    fn read(&self, _: &mut [u8]) -> Result<(), Diag> {
        Err(Diag::new("that device is gone"))
    }
}

#[test]
fn an_input_that_another_device_cannot_give() {
    with_driver("errors::an_input_that_another_device_cannot_give", Cache::Kept, |_| {
        let double = compile(|x: Tensor| x * 2.0, spec::<f32>([1]), &gpu()).expect("it is well typed");
        let error = double.call(&Array::from_remote(DType::F32, [1], Box::new(Lost))).expect_err("it cannot be read");
        assert!(error.to_string().contains("that device is gone"), "{error}");
    });
}

/// What NVRTC does not give, and what it gives in part, never gets to the driver.
#[test]
fn machine_code_that_is_not_given() {
    with_driver("errors::machine_code_that_is_not_given", Cache::Fresh, |driver| {
        let device = gpu();
        let double = || -> Result<f64, Error> {
            let double = compile(|x: Tensor| x * 2.0, spec::<f32>(["n"]), &device)?;
            Ok(double.call(&ones(1))?.item()?)
        };
        for (function, what) in [
            ("nvrtcGetCUBINSize", "machine code"),
            ("nvrtcGetCUBIN", "machine code"),
            ("nvrtcGetPTXSize", "PTX"),
            ("nvrtcGetPTX", "PTX"),
            ("nvrtcGetProgramLog", "the log"),
        ] {
            driver.fail_nvrtc(function, 4);
            let error = double().expect_err("it is not given").to_string();
            let told = format!("NVRTC 13.0 does not give {what} of what it compiled: error 4");
            assert!(error.contains(&told), "{function}: {error}");
            driver.fail_nvrtc(function, 0);
        }
        for bytes in [0, 1000] {
            driver.cut_code(bytes);
            let error = double().expect_err("it is not all there").to_string();
            assert!(error.contains(&format!("of their machine code there are {bytes} bytes, not all")), "{error}");
        }
        driver.cut_code(usize::MAX);
        assert_eq!(double().expect("all of it is given"), 2.0);
        assert_eq!(driver.counts().modules_loaded, 1);
    });
}

/// A stage that cannot be made is told of where its text would be.
#[test]
fn a_stage_that_cannot_be_made() {
    with_driver("errors::a_stage_that_cannot_be_made", Cache::Kept, |driver| {
        let double = compile(|x: Tensor| x * 2.0, spec::<f32>(["n"]), &gpu()).expect("it is well typed");
        let text = |stage| double.kernel_text(0, stage);
        // No disassembler knows the fake's machine code.
        assert!(text(Stage::Sass).is_some_and(|text| text.contains("nvdisasm")));
        driver.fail_nvrtc("nvrtcGetPTX", 4);
        assert!(text(Stage::Ptx).is_some_and(|text| text.contains("does not give PTX of what it compiled: error 4")));
        assert_eq!(text(Stage::Clif), None);
    });
}

#[test]
fn gpus_that_are_not_there_or_too_old() {
    with_driver("errors::gpus_that_are_not_there_or_too_old", Cache::Kept, |driver| {
        assert!(cuda(1).expect_err("there is one").to_string().contains("there is no GPU 1: the CUDA driver sees 1"));
        driver.capability(7);
        assert!(cuda(0).expect_err("it is too old").to_string().contains("is of compute capability 7.0; 8.0 is the least"));
    });
}

#[test]
fn a_driver_that_lacks_a_function() {
    with_old_driver("errors::a_driver_that_lacks_a_function", |driver| {
        let error = || cuda(0).expect_err("it is too old").to_string();
        assert_eq!(
            error(),
            "the CUDA driver is too old: it is of CUDA 13.0, and lacks cuGraphInstantiateWithFlags; update NVIDIA's driver"
        );
        driver.fail("cuDriverGetVersion", 0, 999);
        assert!(error().contains("it is of a version that it does not tell, and lacks cuGraphInstantiateWithFlags"));
    });
}

/// Machine code of a newer major version is nothing that a driver loads.
#[test]
fn a_driver_that_is_older_than_nvrtc() {
    with_driver("errors::a_driver_that_is_older_than_nvrtc", Cache::Kept, |driver| {
        driver.version(12_040);
        let error = cuda(0).expect_err("it is too old").to_string();
        let told = [
            "the CUDA driver is of CUDA 12.4, and NVRTC, which compiles kernels, of CUDA 13.0: ",
            "; run backends/cuda/setup-nvrtc.sh 12, or set GRAVER_NVRTC to the folder of an NVRTC of CUDA 12, or update NVIDIA's driver \
             to one of CUDA 13. Tried:",
            "\n  libnvrtc.so.13: it is of CUDA 13.0\n  libnvrtc.so.12: ",
        ];
        told.iter().for_each(|what| assert!(error.contains(what), "{what}: {error}"));
        driver.version(11_080);
        let error = cuda(0).expect_err("it is too old").to_string();
        let told =
            "the CUDA driver is of CUDA 11.8, and kernels are made for one of CUDA 12 at least; update NVIDIA's driver. Tried:";
        assert!(error.contains(told) && !error.contains("setup-nvrtc"), "{error}");
        [13_000, 13_020, 14_000].iter().for_each(|number| {
            driver.version(*number);
            cuda(0).expect("it is new enough");
        });
        driver.fail("cuDriverGetVersion", 0, 999);
        let error = cuda(0).expect_err("it does not say").to_string();
        assert!(error.contains("the CUDA driver does not tell its version: an unknown error (CUDA_ERROR_UNKNOWN)"), "{error}");
    });
}

#[test]
fn an_older_nvrtc_is_taken_where_the_driver_is_older() {
    with_two_nvrtcs("errors::an_older_nvrtc_is_taken_where_the_driver_is_older", |driver| {
        let double = || {
            let double = compile(|x: Tensor| x * 2.0, spec::<f32>([1]), &gpu()).expect("it is well typed");
            assert_eq!(double.call(&Array::from_vec([1], vec![3.0f32]).expect("one")).expect("it fits").to_f64(), [6.0]);
        };
        driver.version(12_040);
        double();
        assert_eq!(driver.compilations(), 0, "the newer one compiles nothing");
        driver.version(13_000);
        double();
        assert_eq!(driver.compilations(), 1);
    });
}

#[test]
fn a_file_that_is_no_driver() {
    with_broken_driver("errors::a_file_that_is_no_driver", || {
        let error = cuda(0).expect_err("there is none").to_string();
        let told = ["there is no CUDA: the driver's library cannot be loaded", "libcuda.so.1: ", "LD_LIBRARY_PATH is "];
        told.iter().for_each(|what| assert!(error.contains(what), "{what}: {error}"));
        assert!(!error.contains("No such file"), "{error}");
    });
}

/// All that is called is looked up when a GPU is asked for.
#[test]
fn the_functions_of_the_driver_are_those_that_are_looked_up() {
    let (called, looked_up): (BTreeSet<&str>, BTreeSet<&str>) =
        (functions().collect(), DRIVER_FUNCTIONS.iter().copied().collect());
    assert_eq!(called, looked_up);
}

#[test]
fn architectures_that_the_compiler_does_not_know() {
    with_driver("errors::architectures_that_the_compiler_does_not_know", Cache::Kept, |_| {
        let nvrtc = Nvrtc::find().expect("there is one");
        for stage in [Stage::Ptx, Stage::Sass] {
            check_architecture(stage, &nvrtc, "sm_90a").expect("it is known");
            let error = check_architecture(stage, &nvrtc, "sm_980").expect_err("there is none").to_string();
            assert!(error.contains("does not compile kernels for `sm_980` (such as sm_80, sm_90a)"), "{error}");
        }
    });
}

#[test]
fn a_workspace_of_another_executable() {
    with_driver("errors::a_workspace_of_another_executable", Cache::Kept, |_| {
        let cuda = Cuda::new(0).expect("there is a driver");
        let program = || {
            let (_, module) = graver_conformance::nets().into_iter().next().expect("there are some");
            let program: Program =
                graver_passes::pipeline::compile(module, &cuda.describe(), &mut graver_passes::Silent).expect("it compiles");
            cuda.compile(Arc::new(program)).expect("it compiles")
        };
        let (one, other) = (program(), program());
        for mut workspace in [other.workspace(), graver::runtime::Workspace::default()] {
            let call = Invocation { entry: 0, inputs: &[], state: &mut [], workspace: &mut workspace };
            let error = one.run(call).expect_err("it is not its own").to_string();
            assert!(error.contains("the workspace is of") && error.contains("this is another one"), "{error}");
        }
    });
}
