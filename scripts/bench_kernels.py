"""Times every fused kernel beside its peers in one run: bytes that must move over the measured copy bandwidth, and time over each peer's.

    python scripts/bench_kernels.py                      # on a GPU: the Triton kernels, over the whole grid
    python scripts/bench_kernels.py --ops softmax nm_prune --dtypes bfloat16
    python scripts/bench_kernels.py --dry                # on a CPU: the kernels interpreted at tiny shapes, with the bytes they must move
    python scripts/bench_kernels.py                      # without a GPU: the references against what one would write in torch
    python scripts/bench_kernels.py --set WIDEST=16384   # with another constant of runner.kernels.layout, to choose it by

Bytes are the fewest that any implementation moves: every input read once, every output written once, so that the fraction of the copy
bandwidth also charges a kernel for its second reads. Inputs rotate through sets that together exceed the last-level cache. Rows are
appended to results/kernels.csv (`--out`); --dry writes nothing unless `--out` is given.
"""

import argparse
import csv
import datetime
import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
if "--dry" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"

import kernel_bench_linear as L  # noqa: E402
import kernel_bench_losses  # noqa: E402
import kernel_bench_sparse as S  # noqa: E402
import kernel_peers as P  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor  # noqa: E402

from runner import kernels as K  # noqa: E402
from runner.execution.memory import keep_memory  # noqa: E402

MEASURES = ["ms_p20", "ms_p50", "ms_p80", "bytes", "GB/s", "fraction_of_copy", "ratio_to_peer"]
COLUMNS = ["op", "pass", "shape", "dtype", "provider", *MEASURES, "device", "torch", "triton", "commit", "date"]
ROWS = {
    "cuda": [(32768, 256), (32768, 1024), (16384, 4096), (4096, 32768), (2048, 65536), (1024, 131072), (512, 262144)],
    "cpu": [(128, 10), (10000, 10), (4096, 256), (256, 4096)],
    "dry": [(8, 16), (2, 100)],
}
WEIGHTS = {"cuda": [2**20, 2**24, 2**27, 2**30], "cpu": [2**14, 2**20], "dry": [256]}


@dataclass
class Case:
    """One operation at one shape. `make` gives a set of inputs, the differentiable one first, and providers take such a set."""

    op: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[], tuple]
    ours: Callable
    peers: dict[str, Callable]
    forward: int
    backward: int = 0
    compiled: bool = True
    flops: tuple[int, int] = (0, 0)  # of forward and backward, where a product of matrices is most of it


def liger() -> dict[str, Callable]:
    try:
        from liger_kernel.ops.cross_entropy import LigerCrossEntropyFunction
        from liger_kernel.ops.softmax import LigerSoftmaxFunction
    except ImportError:
        return {}
    loss = lambda x, t: LigerCrossEntropyFunction.apply(x, t, None, -100, 0.0, 0.0, "none")[0]
    return {"softmax": LigerSoftmaxFunction.apply, "cross_entropy": loss}


def quack() -> dict[str, Callable]:
    try:
        from quack.cross_entropy import cross_entropy
        from quack.softmax import softmax
    except ImportError:
        return {}
    return {"softmax": softmax, "cross_entropy": lambda x, t: cross_entropy(x, t, reduction="none")}


def entmax_package() -> dict[str, Callable]:
    try:
        import entmax
    except ImportError:
        return {}
    return {
        "sparsemax": lambda x: entmax.sparsemax(x, -1),
        "entmax15": lambda x: entmax.entmax15(x, -1),
        "entmax": lambda x: entmax.entmax_bisect(x, 1.25, -1),
    }


def adasplash() -> dict[str, Callable]:
    try:
        from adasplash import triton_entmax, triton_sparsemax
    except ImportError:
        return {}
    return {"sparsemax": triton_sparsemax, "entmax15": lambda x: triton_entmax(x, 1.5), "entmax": lambda x: triton_entmax(x, 1.25)}


LIBRARIES = {
    "adasplash": adasplash(),
    "liger": liger() | L.liger(),
    "quack": quack(),
    "entmax": entmax_package() | kernel_bench_losses.entmax_package(),
    "cut_cross_entropy": L.cut_cross_entropy(),
    "torchao": S.torchao(),
}


def row_cases(shape: tuple[int, int], dtype: torch.dtype, device: str) -> Iterator[Case]:
    rows, cols = shape
    n = rows * cols * dtype.itemsize
    k = min(8, cols)
    x = lambda: torch.randn(shape, device=device, dtype=dtype).requires_grad_()
    hard = lambda: (x(), torch.randint(cols, (rows,), device=device))
    soft = lambda: (x(), torch.rand(shape, device=device, dtype=dtype))
    seeded = lambda: (x(), torch.tensor(1, device=device))
    simple = {
        "softmax": (K.softmax, lambda x: x.softmax(-1)),
        "log_softmax": (K.log_softmax, lambda x: x.log_softmax(-1)),
        "sparsemax": (K.sparsemax, P.sparsemax),
        "entmax15": (K.entmax15, P.entmax15),
        "entmax": (lambda x: K.entmax(x, 1.25), P.entmax),
        "softpick": (K.softpick, P.softpick),
        "sparse_topk_softmax": (lambda x: K.sparse_topk_softmax(x, k), P.sparse_topk),
        "scalable_softmax": (lambda x: K.scalable_softmax(x, 0.43), P.scalable),
        "self_adjust_softmax": (K.self_adjust_softmax, P.self_adjust),
        "stablemax": (K.stablemax, P.stablemax),
        "top_n_sigma_softmax": (lambda x: K.top_n_sigma_softmax(x, 1.0), P.top_n_sigma),
        "adaptive_softmax": (K.adaptive_softmax, P.adaptive),
    }
    noise = {"eager": lambda x, s: F.gumbel_softmax(x)}
    router = {"eager": lambda x: x.softmax(-1).topk(k)}
    if cols > K.layout.WIDEST:  # these kernels hold whole rows
        del simple["softpick"]
    else:
        yield Case("gumbel_softmax", shape, dtype, seeded, lambda x, s: K.gumbel_softmax(x, seed=s), noise, 2 * n, 3 * n)
        kept = rows * k * (8 + dtype.itemsize)
        yield Case("topk_softmax", shape, dtype, lambda: (x(),), lambda x: K.topk_softmax(x, k), router, n + kept, 2 * n + kept)
    for op, (ours, eager) in simple.items():
        yield Case(op, shape, dtype, lambda: (x(),), ours, {"eager": eager}, 2 * n, 3 * n)
    eager = {"eager": lambda x, t: F.cross_entropy(x, t, reduction="none")}
    yield Case("cross_entropy", shape, dtype, hard, K.cross_entropy, eager, n + 12 * rows, 2 * n)
    yield Case("cross_entropy_soft", shape, dtype, soft, K.cross_entropy, eager, 2 * n + 4 * rows, 3 * n)
    yield from kernel_bench_losses.cases(Case, shape, dtype, device)


def weight_cases(n: int, dtype: torch.dtype, device: str) -> Iterator[Case]:
    shape, size = (n // 64, 64), n * dtype.itemsize
    w = lambda: torch.randn(shape, device=device, dtype=dtype)
    mask = lambda: torch.rand(shape, device=device) < 0.5
    yield Case("nm_prune", shape, dtype, lambda: (w(),), lambda w: K.nm_prune(w, 2, 4), {"eager": P.nm}, 2 * size + n)
    yield Case(
        "topk_mask",
        shape,
        dtype,
        lambda: (w(),),
        lambda w: K.topk_mask(w, w.numel() // 10),
        {"eager": P.topk_mask},
        size + n,
        compiled=False,
    )
    yield Case(
        "masked_sgd",
        shape,
        dtype,
        lambda: (w(), w(), w(), mask()),
        lambda *t: K.masked_sgd_(*t, lr=0.1),
        {"eager": P.sgd},
        5 * size + n,
    )
    peers = {"eager": P.adamw, "fused unmasked": P.fused_unmasked_adamw}
    yield Case(
        "masked_adamw",
        shape,
        dtype,
        lambda: (w(), w(), w(), w().abs(), mask()),
        lambda *t: K.masked_adamw_(*t, step=2),
        peers,
        7 * size + n,
    )


def first(outputs) -> Tensor:
    return outputs[0] if isinstance(outputs, tuple) else outputs


def runner_of(f: Callable, whole: bool) -> Callable:
    """A call of `f` on one set of inputs, with its backward if `whole`."""

    def run(inputs, grad):
        if not whole:
            with torch.no_grad():
                return f(*inputs)
        inputs[0].grad = None
        y = first(f(*inputs))
        return y.backward(grad.to(y.dtype))

    return run


def measure(runs: dict[str, Callable], sets: list, grads: dict[str, list], device: str, budget: float) -> dict[str, tuple[float, float, float]]:
    """Milliseconds at the 20th, 50th and 80th percentile for each run.

    Runs take turns, so that a drift of the machine meets all alike, and every call has the inputs that were used the longest ago: none finds
    them in a cache because another has just read them.
    """
    cuda = device == "cuda"

    def call(name, i):
        inputs, mine = sets[i % len(sets)], grads.get(name)
        if cuda:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            runs[name](inputs, mine and mine[i % len(mine)])
            end.record()
            return start, end
        begin = time.perf_counter()
        runs[name](inputs, mine and mine[i % len(mine)])
        return begin, time.perf_counter()

    def timed(rounds):
        times = {name: [] for name in runs}
        for i in range(rounds):
            for k, name in enumerate(runs):
                times[name].append(call(name, i * len(runs) + k))
        if cuda:
            torch.cuda.synchronize()
        length = (lambda start, end: start.elapsed_time(end)) if cuda else (lambda begin, end: 1e3 * (end - begin))
        return {name: [length(*pair) for pair in pairs] for name, pairs in times.items()}

    timed(3)
    slowest = max(statistics.median(times) for times in timed(3).values())
    measured = timed(min(max(10, int(1e3 * budget / max(slowest, 1e-3))), 500))
    return {name: tuple(statistics.quantiles(times, n=10)[i] for i in (1, 4, 7)) for name, times in measured.items()}


def copy_bandwidth(device: str, size: int) -> float:
    """GB/s of a large copy within the device's memory, read and write counted."""
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    _, ms, _ = measure({"copy": lambda *_: target.copy_(source)}, [()], {}, device, 0.3)["copy"]
    return 2 * size / ms / 1e6


def bench(case: Case, device: str, mode: str, copy: float, budget: float, facts: dict, ours_as: str) -> Iterator[dict]:
    cache = torch.cuda.get_device_properties(0).L2_cache_size if device == "cuda" else 2**25
    count = 1 if mode == "dry" else min(8, max(1, -(-3 * cache // case.forward)))
    sets = [case.make() for _ in range(count)]
    providers = {"runner": case.ours, **case.peers}
    providers |= {name: library[case.op] for name, library in LIBRARIES.items() if case.op in library}
    if device == "cuda" and case.compiled:
        providers["compile"] = torch.compile(case.peers["eager"], dynamic=False, mode="max-autotune-no-cudagraphs")
    for label, whole, size in [("forward", False, case.forward), ("forward+backward", True, case.forward + case.backward)]:
        if whole and not case.backward:
            continue
        runs, grads = {}, {}
        for name, f in providers.items():
            try:
                run, example = runner_of(f, whole), first(f(*sets[0]))
                upstream = [torch.randn_like(example) for _ in sets[:2]] if whole else []
                run(sets[0], upstream and upstream[0])
                runs[name], grads[name] = run, upstream
            except Exception as error:  # what a peer refuses is told, not hidden
                if name == "runner":
                    raise
                print(f"{case.op} {case.shape} {name}: {type(error).__name__}: {str(error).splitlines()[0][:100]}", file=sys.stderr)
        measured = measure(runs, sets, grads, device, budget)
        ours = measured["runner"][1]
        for name, (p20, p50, p80) in measured.items():
            speed = size / p50 / 1e6
            yield {
                "op": case.op,
                "pass": label,
                "shape": "x".join(map(str, case.shape)),
                "dtype": str(case.dtype).removeprefix("torch."),
                "provider": ours_as if name == "runner" else name,
                "ms_p20": f"{p20:.4g}",
                "ms_p50": f"{p50:.4g}",
                "ms_p80": f"{p80:.4g}",
                "bytes": size,
                "GB/s": f"{speed:.4g}",
                "fraction_of_copy": f"{speed / copy:.3f}",
                "ratio_to_peer": f"{ours / p50:.3f}",
                **facts,
            }


def environment(device: str, dry: bool) -> dict[str, str]:
    triton = next((d.version for d in importlib.metadata.distributions(name="triton")), "")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU {platform.machine()}, threads: {torch.get_num_threads()}"
    date = datetime.date.today().isoformat()
    return {"device": name + (", interpreter" if dry else ""), "torch": torch.__version__, "triton": triton, "commit": commit, "date": date}


def cases(mode: str, dtypes: list[str], device: str) -> Iterator[Case]:
    for name in dtypes:
        for shape in ROWS[mode]:
            yield from row_cases(shape, getattr(torch, name), device)
        for n in WEIGHTS[mode]:
            yield from weight_cases(n, getattr(torch, name), device)
        yield from L.cases(Case, mode, getattr(torch, name), device)
        yield from S.cases(Case, mode, getattr(torch, name), device)


def constant(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not (isinstance(getattr(K.layout, name, None), int) and number.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text}: give a constant of runner.kernels.layout and a number, as WIDEST=16384")
    return name, int(number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops", nargs="*", help="only these operations")
    parser.add_argument("--dtypes", nargs="*", default=["bfloat16", "float32"])
    parser.add_argument("--seconds", type=float, default=0.1, help="measuring time for each provider and pass")
    parser.add_argument("--out", type=Path, help="CSV to append to")
    parser.add_argument("--set", nargs="*", default=[], type=constant, metavar="NAME=NUMBER", help="constants of runner.kernels.layout")
    parser.add_argument("--dry", action="store_true", help="interpret the kernels on the CPU at tiny shapes")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() and not options.dry else "cpu"
    for name, number in options.set:
        setattr(K.layout, name, number)
    keep_memory()  # as in a run, for all alike
    mode = "dry" if options.dry else device
    if mode == "cpu":
        options.dtypes = ["float32"]  # half precision is emulated on most CPUs
    out = options.out or (None if options.dry else ROOT / "results" / "kernels.csv")
    facts = environment(device, options.dry)
    ours_as = " ".join(["runner (reference)" if mode == "cpu" else "runner", *(f"{name}={number}" for name, number in options.set)])
    copy = copy_bandwidth(device, 2**31 if device == "cuda" else 2**27)
    print(f"{facts['device']}: copy {copy:.0f} GB/s; torch {facts['torch']}, triton {facts['triton']}")
    print(f"{'op':27}{'pass':18}{'shape':18}{'dtype':10}{'bytes':>12}{'ms':>10}{'of copy':>9}  time over each peer's")
    with K.dispatch.backend("reference" if mode == "cpu" else "triton"):
        for case in cases(mode, options.dtypes, device):
            if options.ops and case.op not in options.ops:
                continue
            rows = list(bench(case, device, mode, copy, 0 if options.dry else options.seconds, facts, ours_as))
            if out:
                fresh = not out.exists()
                with out.open("a", newline="") as file:
                    writer = csv.DictWriter(file, COLUMNS)
                    if fresh:
                        writer.writeheader()
                    writer.writerows(rows)
            for mine in (r for r in rows if r["provider"].startswith("runner")):
                peers = "  ".join(f"{r['provider']} {r['ratio_to_peer']}" for r in rows if r["pass"] == mine["pass"] and r is not mine)
                flops = case.flops[0] + case.flops[1] * ("backward" in mine["pass"])
                peers += f"  {flops / float(mine['ms_p50']) / 1e9:.1f} TFLOP/s" if flops else ""
                line = f"{mine['op']:27}{mine['pass']:18}{mine['shape']:18}{mine['dtype']:10}{mine['bytes']:>12}{mine['ms_p50']:>10}"
                print(f"{line}{mine['fraction_of_copy']:>9}  {peers}", flush=True)
    if options.dry:
        print("\nbytes that must move on the GPU's grid, forward and backward")
        for case in cases("cuda", options.dtypes, device):
            name = str(case.dtype).removeprefix("torch.")
            flops = "".join(f" {n / 1e12:.3g} TFLOP" for n in case.flops if n)
            print(f"{case.op:27}{'x'.join(map(str, case.shape)):18}{name:10}{case.forward:>15}{case.backward:>15}{flops}")


if __name__ == "__main__":
    main()
