//! The suite on a GPU, where there is one; elsewhere, that its absence is an ordinary error.

use graver_conformance::{contractions, functions, networks, random_programs, samples};
use graver_cuda::Cuda;

#[test]
fn the_suite_or_an_error_that_says_what_is_missing() {
    let cuda = match Cuda::new(0) {
        Ok(cuda) => cuda,
        Err(error) => {
            let said = error.to_string();
            let told = ["libcuda.so.1", "libnvrtc.so.13", "there is no GPU 0", "compute capability", "the CUDA driver"];
            assert!(told.iter().any(|what| said.contains(what)), "{said}");
            println!("not run on a GPU: {said}");
            return;
        }
    };
    println!("on {}", cuda.name());
    samples(&cuda);
    functions(&cuda);
    networks(&cuda);
    contractions(&cuda, &[&cuda]);
    random_programs(&cuda, &cuda, 0..150);
}
