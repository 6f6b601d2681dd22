"""Compiles every row kernel of the bench for a Hopper GPU, without one, and says how near to memory speed its instructions let it come.

    python scripts/profile_kernels.py                                   # every operation, 4096 and 65536 columns, bfloat16 and float32
    python scripts/profile_kernels.py --ops softmax entmax15 --columns 8192 16384 --dtypes bfloat16

A multiprocessor issues a limited number of instructions in the time in which the memory moves an element: `bound` is the fraction of the copy
bandwidth that the instructions an element allow, counted in the machine code (SASS), an upper bound that only a GPU can lower. Loops over a
row's columns count once, also a search in a wide row, as if it kept every entry; searches in rows that are held count one step, and `step` is
what each further one adds. `programs` is how many programs the registers and the shared memory let a multiprocessor hold, `spilled` bytes of
stack a thread. Several kernels of a pass add up. Forward passes that also write a gradient (the sparse losses) are charged with the read alone.
Rows are appended to results/sm_90.csv (`--out`). Lanes a clock are those of the CUDA C++ Programming Guide's table of arithmetic throughput for
compute capability 9.0. Taken for an H200, not measured here: 132 multiprocessors at 1.755 GHz, and 4.3 TB/s copied.
"""

import argparse
import csv
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests/kernels")]

import bench_kernels  # noqa: E402
import torch  # noqa: E402
import triton  # noqa: E402
from hopper import CUOBJDUMP, Hopper  # noqa: E402
from triton.runtime.jit import JITFunction  # noqa: E402

from runner.kernels import dispatch, layout  # noqa: E402

COLUMNS = ["op", "pass", "columns", "dtype", "kernels", "registers", "spilled", "programs", "instructions", "step", "mufu", "bound", "triton", "commit"]
COPIED = 4.3e12 / 132 / 1.755e9  # bytes that a copy moves in a clock of a multiprocessor
RATES = {"all": 128, "half": 64, "mufu": 16}  # lanes a clock
HALF = ("FMNMX", "FSETP", "FSEL", "ISETP", "IADD3", "IMNMX", "LOP3", "SHF", "SEL", "PRMT", "LEA", "PLOP3", "P2R", "VIADD", "F2FP", "HMNMX2")
SEARCHES = 16  # instructions below which a loop is a wait or a reduction's tail


def counted(instructions: list[str]) -> Counter:
    names = [re.sub(r"^@!?U?P\w+ ", "", text).split()[0].split(".")[0] for text in instructions]
    return Counter(all=len(names), half=sum(name in HALF for name in names), mufu=names.count("MUFU"))


def clocks(lanes: Counter) -> float:
    return max(lanes[kind] / rate for kind, rate in RATES.items())


class Profile:
    """Takes the place of a launch: compiles it, and keeps what an element costs."""

    def __init__(self):
        self.launches = []
        self.compile = JITFunction.run

    def run(self, function, *args, grid, warmup, **options):
        compiled = self.compile(function, *args, grid=grid, warmup=True, **options)
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(compiled.asm["cubin"])
            file.flush()
            dump = lambda what: subprocess.run([CUOBJDUMP, what, file.name], capture_output=True, text=True, check=True).stdout
            usage, code = dump("-res-usage"), dump("-sass")
        lines = [(int(at, 16), text.strip()) for at, text in re.findall(r"/\*([0-9a-f]{4,})\*/\s+(.*?);", code)]
        lines = [(at, text) for at, text in lines if not text.startswith("NOP")]
        jumps = [(int(to[1], 16), at) for at, text in lines if (to := re.search(r"\bBRA(?:\.\w+)* (?:\w+, )?0x([0-9a-f]+)", text))]
        loops = [counted([text for at, text in lines if first <= at <= last]) for first, last in jumps if first < last]
        loops = [loop for loop in loops if loop["all"] > SEARCHES]
        warps, wide = options.get("num_warps", 4), "CHUNK" in options
        elements = options["CHUNK"] if wide else options["HEIGHT"] * options["WIDTH"]
        whole = sum(loops, Counter()) if wide else counted([text for _, text in lines])
        step = Counter() if wide else max(loops, key=clocks, default=Counter())
        registers, spilled = (int(re.search(rf"{name}:(\d+)", usage)[1]) for name in ("REG", "STACK"))
        shared = compiled.metadata.shared
        programs = min(65536 // (max(registers, 24) * 32 * warps), 64 // warps, 227 * 1024 // (shared + 1024), 32)
        lanes = lambda count: Counter({kind: n * 32 * warps / elements for kind, n in count.items()})
        self.launches.append((function.__name__.strip("_"), registers, spilled, programs, lanes(whole), lanes(step)))
        return compiled


def rows_of(case, profile: Profile, facts: dict):
    """A row of the table for each pass of a case."""
    elements = case.shape[0] * case.shape[1]
    inputs = case.make()
    for label, size in [("forward", case.forward), ("backward", case.backward)]:
        if label == "forward":
            y = bench_kernels.first(case.ours(*inputs))
        elif size and y.requires_grad:
            y.sum().backward()
        launches, profile.launches = profile.launches, []
        if not launches:
            continue
        names, registers, spilled, programs, lanes, steps = zip(*launches, strict=True)
        total, step = sum(lanes, Counter()), max(steps, key=clocks)
        bound = min(1.0, size / elements / COPIED / clocks(total))
        yield {
            "op": case.op,
            "pass": label,
            "columns": case.shape[1],
            "dtype": str(case.dtype).removeprefix("torch."),
            "kernels": " ".join(names),
            "registers": max(registers),
            "spilled": max(spilled),
            "programs": min(programs),
            "instructions": f"{total['all']:.1f}",
            "step": f"{step['all']:.1f}" if step else "",
            "mufu": f"{total['mufu']:.1f}",
            "bound": f"{bound:.2f}",
            **facts,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops", nargs="*", help="only these operations")
    parser.add_argument("--columns", nargs="*", type=int, default=[4096, 65536])
    parser.add_argument("--dtypes", nargs="*", default=["bfloat16", "float32"])
    parser.add_argument("--out", type=Path, default=ROOT / "results/sm_90.csv", help="CSV to append to")
    options = parser.parse_args()
    triton.runtime.driver.set_active(Hopper())
    profile = Profile()
    JITFunction.run = lambda function, *args, **launch: profile.run(function, *args, **launch)
    dispatch.why_not = lambda op, x: dispatch._limits[op](x)
    dispatch.backend("triton")
    found = bench_kernels.environment("cpu", False)
    facts = {"triton": triton.__version__, "commit": found["commit"]}
    new = not options.out.exists()
    with options.out.open("a", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        if new:
            table.writeheader()
        for dtype in options.dtypes:
            for columns in options.columns:
                shape = (4 if columns <= layout.WIDEST else layout.PROGRAMS, columns)
                for case in bench_kernels.row_cases(shape, getattr(torch, dtype), "cpu"):
                    if options.ops and case.op not in options.ops:
                        continue
                    try:
                        for row in rows_of(case, profile, facts):
                            table.writerow(row)
                            file.flush()
                            print(*(f"{row[name]}" for name in COLUMNS[:-2]), flush=True)
                    except RuntimeError as error:  # an operation without a kernel at this width
                        print(case.op, columns, dtype, str(error).splitlines()[0], file=sys.stderr)


if __name__ == "__main__":
    main()
