"""Has torch write small networks of many families by both of its exporters, for fixed sizes, for any batch and for any size, with what torch
makes of them at three sizes each.

    python export.py FOLDER [NAME..]        # cases as `graver conform` takes them; those that are there are kept
    graver conform FOLDER --atol 1e-5 --report REPORT
    python export.py FOLDER --table REPORT  # what the guide has

Needs torch, torchvision, transformers, onnx and onnxscript. Weights and inputs are random. What an exporter refuses is in the case's
`refused.txt`.
"""

import collections
import itertools
import json
import logging
import pathlib
import shutil
import sys
import warnings

import numpy
import torch

VERSIONS = (18, 20, 21, 23)


def forms(network):
    """Which sizes are dynamic."""
    names = {name for axes in network.axes.values() for name in axes if name}
    return [("static", set()), ("batch", {"batch"})] + ([("any", names)] if names != {"batch"} else [])


def old(model, given, axes, version, path):
    torch.onnx.export(model, given, path, dynamo=False, opset_version=version, input_names=list(axes), dynamic_axes=axes)


def new(model, given, axes, version, path):
    """Operands that a `forward` takes as a list are one of its parameters."""
    shapes = [{axis: torch.export.Dim.DYNAMIC for axis in named} for named in axes.values()]
    code = model.forward.__code__
    if code.co_flags & 0x04:
        alone = code.co_argcount - 1
        shapes = shapes[:alone] + ([tuple(shapes[alone:])] if shapes[alone:] else [])
    dynamic = dict(dynamic_shapes=tuple(shapes)) if any(axes.values()) else {}
    torch.onnx.export(
        model, given, path, dynamo=True, opset_version=version, input_names=list(axes), external_data=False, verbose=False, **dynamic
    )


def write(folder, network, export, dynamic, version):
    folder.mkdir(parents=True)
    torch.manual_seed(7)
    model = network.build().eval()
    axes = {name: {axis: size for axis, size in enumerate(sizes) if size in dynamic} for name, sizes in network.axes.items()}
    try:
        export(model, tuple(network.inputs(network.sizes[0]).values()), axes, version, folder / "model.onnx")
    except Exception as error:
        (folder / "model.onnx").unlink(missing_ok=True)
        (folder / "refused.txt").write_text(f"{type(error).__name__}: {error}")
        return
    for place, sizes in enumerate(network.sizes if dynamic else network.sizes[:1]):
        given = network.inputs({name: size if name in dynamic else network.sizes[0][name] for name, size in sizes.items()})
        with torch.no_grad():
            results = model(*given.values())
        results = [results] if isinstance(results, torch.Tensor) else results
        own = folder / f"set_{place}"
        (own / "expect").mkdir(parents=True)
        for kind, arrays in (("input", given.values()), ("expect/output", results)):
            for i, array in enumerate(arrays):
                numpy.save(own / f"{kind}_{i}.npy", array.numpy())


def export_all(root, wanted):
    import pictures
    import recurrent
    import transformer
    import unets

    torch.set_num_threads(1)
    modules = (transformer, pictures, recurrent, unets)
    for number, network in enumerate(itertools.chain(*(module.networks() for module in modules))):
        if wanted and network.name not in wanted:
            continue
        for exporter in network.exporters:
            export, versions = (old, network.versions) if exporter == "old" else (new, VERSIONS)
            for place, (form, dynamic) in enumerate(forms(network)):
                version = versions[(number + place) % len(versions)]
                folder = root / network.family / f"{network.name}-{exporter}-{version}-{form}"
                if not any((folder / name).exists() for name in ("set_0", "refused.txt")):
                    shutil.rmtree(folder, ignore_errors=True)
                    write(folder, network, export, dynamic, version)
                    print(folder, "refused" if (folder / "refused.txt").exists() else "", flush=True)


def table(root, report):
    """A row a family: of each exporter the cases, those that agree, the greatest difference of those, and what was refused."""
    cases = collections.defaultdict(list)
    for row in json.loads(report.read_text()):
        cases[row["kind"], row["name"].split("-")[1]].append(row)
    for path in root.glob("*/*/refused.txt"):
        cases[path.parts[-3], path.parts[-2].split("-")[1]].append(None)
    columns = ["cases", "agree", "greatest difference", "refused"]
    print("| family | older exporter: " + " | ".join(columns) + " | newer exporter: " + " | ".join(columns) + " |")
    print("|" + "---|" * 9)
    for family in sorted({family for family, _ in cases}):
        columns = [family]
        for exporter in ("old", "new"):
            rows = cases[family, exporter]
            made = [row for row in rows if row]
            agree = [row["error"] or 0 for row in made if row["status"] == "pass"]
            columns += [len(made), len(agree), f"{max(agree, default=0):.1e}", len(rows) - len(made)]
        print("| " + " | ".join(map(str, columns)) + " |")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    folder, *more = sys.argv[1:]
    if more[:1] == ["--table"]:
        table(pathlib.Path(folder), pathlib.Path(more[1]))
    else:
        export_all(pathlib.Path(folder), more)
