//! Removes buffers and kernels that no launch names any more. Kernels are numbered as they are launched; no step changes.

use graver_ir::kernel::{BufferId, Entry, Kernel, KernelId, Launch, Place, Program};

/// Every entry, and the kernels that are left.
pub(crate) fn run(program: &mut Program) {
    program.entries.iter_mut().for_each(drop_unused_buffers);
    drop_unused_kernels(program);
}

/// Removes computed buffers that no launch touches any more.
fn drop_unused_buffers(entry: &mut Entry) {
    let mut used: Vec<bool> = entry.buffers.iter().map(|buffer| buffer.place != Place::Unplaced).collect();
    let Entry { steps, inputs, outputs, .. } = entry;
    let mut each = |visit: &mut dyn FnMut(&mut BufferId)| steps.iter_mut().for_each(|step| step.for_each_buffer_mut(visit));
    each(&mut |buffer| used[buffer.0 as usize] = true);
    let mut kept = 0;
    let mut number = |used: &bool| {
        kept += u32::from(*used);
        kept.saturating_sub(1)
    };
    let new: Vec<u32> = used.iter().map(&mut number).collect();
    let mut rename = |buffer: &mut BufferId| *buffer = BufferId(new[buffer.0 as usize]);
    each(&mut rename);
    inputs.iter_mut().map(|(buffer, _)| buffer).chain(outputs).for_each(rename);
    let mut used = used.into_iter();
    entry.buffers.retain(|_| used.next() == Some(true));
}

/// Removes kernels that no launch names, and numbers the others in order of launch.
fn drop_unused_kernels(program: &mut Program) {
    let mut old: Vec<Option<Kernel>> = std::mem::take(&mut program.kernels).into_iter().map(Some).collect();
    let mut new: Vec<Option<KernelId>> = vec![None; old.len()];
    let Program { entries, kernels, .. } = program;
    let mut renumber = |launch: &mut Launch| {
        let place = launch.kernel.0 as usize;
        if let Some(kernel) = old[place].take() {
            new[place] = Some(KernelId(u32::try_from(kernels.len()).expect("fewer than 2^32 kernels")));
            kernels.push(kernel);
        }
        launch.kernel = new[place].expect("K3: a kernel that is launched was kept at its first launch");
    };
    entries.iter_mut().flat_map(|entry| &mut entry.steps).for_each(|step| step.for_each_launch_mut(&mut renumber));
}
