"""Run one target: ``python -m fuzz TARGET [--time SECONDS] [--runs COUNT]``, or replay files."""

import argparse
import ctypes
import hashlib
import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import atheris  # type: ignore[import-not-found]

import fuzz

FOUND = Path("build/fuzz")
"""Where inputs that reached something new are kept, and crashes."""

CORPUS = Path("fuzz/corpus")
DICTIONARIES = Path("fuzz/dictionaries")

INPUT_MAX_BYTES = 4096

INPUT_TIMEOUT = 10
"""An input that takes longer is a finding; seconds."""

SIZES = (1, 2, 4, 8)
PASSED_ON = ("switch", *(f"{kind}cmp{size}" for kind in ("", "const_") for size in SIZES))
"""What ``coverage.c`` passes on to the fuzzer."""

TARGETS = sorted(
    module.name for module in pkgutil.iter_modules(fuzz.__path__) if module.name[0] != "_"
)


def count_blocks_of_kernels(library: Path) -> None:
    """Let the fuzzer see what runs in the kernels that ``tools/fuzz.py`` built.

    Before they are loaded, as what they call has to be there.
    """
    ours = ctypes.CDLL(str(library.resolve()), ctypes.RTLD_GLOBAL)
    found = importlib.util.find_spec("atheris.core_with_libfuzzer")
    assert found is not None
    fuzzer = ctypes.CDLL(found.origin)
    for name in PASSED_ON:
        passed = ctypes.c_void_p.in_dll(ours, f"pass_{name}")
        passed.value = ctypes.cast(fuzzer[f"__sanitizer_cov_trace_{name}"], ctypes.c_void_p).value
    ours.begin(fuzzer["__sanitizer_cov_8bit_counters_init"], fuzzer["__sanitizer_cov_pcs_init"])


def load(name: str) -> ModuleType:
    """Import a target, and the code it reaches with counters in its branches."""
    with atheris.instrument_imports(
        include=["spooky", "aioquic.quic", "tests.core.quic.stream_walk"],
        enable_loader_override=False,
    ):
        return importlib.import_module(f"fuzz.{name}")


def write_seeds(target: ModuleType, folder: Path) -> None:
    """Put a target's seeds beside what earlier runs found."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


def arguments(options: argparse.Namespace) -> Iterator[str]:
    """Yield what libFuzzer is told."""
    folder, kept = FOUND / options.target, CORPUS / options.target
    corpora = [folder / "corpus", *([kept] if kept.exists() else [])]
    if options.merge:
        merged = folder / "merged"
        merged.mkdir(exist_ok=True)
        for path in merged.iterdir():
            path.unlink()
        yield "-merge=1"
        corpora.insert(0, merged)
    yield from map(str, corpora)
    dictionary = DICTIONARIES / f"{options.target}.dict"
    if dictionary.exists():
        yield f"-dict={dictionary}"
    yield f"-artifact_prefix={folder}/"
    yield f"-max_total_time={options.time}"
    yield f"-runs={options.runs}"
    yield f"-seed={options.seed}"
    yield f"-max_len={INPUT_MAX_BYTES}"
    yield f"-timeout={INPUT_TIMEOUT}"
    yield "-print_final_stats=1"


def main() -> None:
    """Read the command line and fuzz."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument(
        "--list", action="version", version="\n".join(TARGETS), help="name the targets"
    )
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("inputs", nargs="*", type=Path, help="files to replay instead")
    parser.add_argument("--time", type=int, default=0, help="seconds; 0 for no limit")
    parser.add_argument("--runs", type=int, default=-1, help="inputs; -1 for no limit")
    parser.add_argument("--seed", type=int, default=0, help="of the random choices; 0 for any")
    # libFuzzer merges in processes of its own, which it starts by the name that it knows us by.
    parser.add_argument("--told", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.add_argument("--merge", action="store_true", help="only pick what reaches all there is")
    options = parser.parse_args()
    library = os.environ.get("SPOOKY_COVERAGE")
    if library:
        count_blocks_of_kernels(Path(library))
    target = load(options.target)
    if options.inputs:
        for path in options.inputs:
            target.run(path.read_bytes())
        return
    if options.told is None:
        write_seeds(target, FOUND / options.target / "corpus")
    told = arguments(options) if options.told is None else options.told
    atheris.Setup([" ".join([*sys.orig_argv, "--told"]), *told], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
