"""Fuzz targets with kernels whose every block is counted, as coverage guides by nothing else.

Builds the kernels into ``build/fuzz``, so the ordinary build is left alone; after that only what
changed. With ``--sanitize`` they are built in a copy of the tree, with bounds checks on and under
AddressSanitizer and UndefinedBehaviorSanitizer. What each run came to is kept beside what it found,
and ``--report`` sums it up for docs/security/fuzzing.md.
"""

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import sanitize

BUILT = Path("build/fuzz-kernels")
SANITIZED = Path("build/fuzz-sanitize")
FOUND = Path("build/fuzz")
"""As in ``fuzz/__main__.py``."""

RECORD = FOUND / "record.jsonl"

CORPUS = Path("fuzz/corpus")
CORPUS_FILES, CORPUS_FILE_BYTES = 24, 600
"""Most of a target's inputs that ``--save`` keeps, and the longest: the suite runs all of them."""

EXECUTIONS = re.compile(r"stat::number_of_executed_units: (\d+)")
COVERAGE = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")


def targets() -> list[str]:
    """Return the names of all targets."""
    return sorted(path.stem for path in Path("fuzz").glob("*.py") if path.stem[0] != "_")


def target(text: str) -> str:
    """Return the name of a target that there is."""
    if text not in targets():
        raise argparse.ArgumentTypeError(
            f"there is no target {text!r}; there are: {', '.join(targets())}"
        )
    return text


def seconds(text: str) -> int:
    """Return how long to fuzz."""
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write whole seconds, such as 60")
    return int(text)


@dataclass(frozen=True)
class Build:
    """Kernels to fuzz.

    Attributes:
        libraries: Where Python finds what was built.
        coverage: The library that tells the fuzzer which of their blocks ran.
        environment: For the fuzzer.
    """

    libraries: str
    coverage: Path
    environment: dict[str, str]


def compile_coverage(library: Path) -> None:
    """Compile what passes on which blocks ran."""
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O2", "-o", str(library), "fuzz/coverage.c"], check=True
    )


def build() -> Build:
    """Compile the kernels."""
    environment = os.environ | {"CC": "gcc", "SPOOKY_COVERAGE": "1"}
    environment.pop("SPOOKY_PURE", None)
    places = ["--build-base", str(BUILT / "base"), "--build-lib", str(BUILT / "lib")]
    command = [sys.executable, "setup.py", "-q", "build", *places, "--parallel", "2"]
    subprocess.run(command, env=environment, check=True)
    library = BUILT / "coverage.so"
    compile_coverage(library)
    return Build(f"{BUILT / 'lib'}:.", library, {})


def build_sanitized() -> Build:
    """Compile the kernels with everything checked."""
    sanitize.copy_tree(SANITIZED, ("spooky", "tests", "fuzz"))
    environment = os.environ | {"CC": "gcc", "SPOOKY_COVERAGE": "1", "SPOOKY_SANITIZE": "1"}
    environment.pop("SPOOKY_PURE", None)
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--parallel=2"]
    subprocess.run(command, cwd=SANITIZED, env=environment, check=True)
    library = SANITIZED / "coverage.so"
    compile_coverage(library)
    # The sanitizer has functions of the same names, which do nothing: ours have to come first.
    preloaded = f"{library.resolve()}:{sanitize.runtime()}"
    options = dict(sanitize.OPTIONS)
    options["ASAN_OPTIONS"] += ":verify_asan_link_order=0"
    return Build(str(SANITIZED), library, {"LD_PRELOAD": preloaded, **options})


def fuzz(built: Build, name: str, arguments: list[str]) -> int:
    """Fuzz one target, and write down what came of it; return the fuzzer's status."""
    environment = os.environ | built.environment
    environment |= {"PYTHONPATH": built.libraries, "SPOOKY_COVERAGE": str(built.coverage)}
    # Without the folder that it is started in, whose kernels are the ordinary ones.
    command = [sys.executable, "-P", "-m", "fuzz", name, *arguments]
    begun = datetime.datetime.now(datetime.UTC)
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    assert process.stderr is not None
    executions, coverage = 0, (0, 0, 0)
    for line in process.stderr:
        sys.stderr.buffer.write(line)
        text = line.decode(errors="replace")
        if found := EXECUTIONS.search(text):
            executions = int(found[1])
        if found := COVERAGE.search(text):
            coverage = int(found[1]), int(found[2]), int(found[3])
    status = process.wait()
    entry = {
        "target": name,
        "begun": begun.isoformat(timespec="seconds"),
        "seconds": round((datetime.datetime.now(datetime.UTC) - begun).total_seconds(), 1),
        "executions": executions,
        "blocks": coverage[0],
        "features": coverage[1],
        "corpus": coverage[2],
        "sanitized": bool(built.environment),
        "status": status,
    }
    FOUND.mkdir(parents=True, exist_ok=True)
    with RECORD.open("a") as record:
        record.write(json.dumps(entry) + "\n")
    return status


def rows() -> Iterator[str]:
    """Yield the rows of a table of all runs that were written down."""
    entries = [json.loads(line) for line in RECORD.read_text().splitlines()]
    yield "| target | executions | under sanitizers | seconds | blocks | features |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    total, sanitized, took = 0, 0, 0.0
    for name in targets():
        runs = [entry for entry in entries if entry["target"] == name]
        executed = sum(run["executions"] for run in runs)
        checked = sum(run["executions"] for run in runs if run["sanitized"])
        time = sum(run["seconds"] for run in runs)
        blocks = max((run["blocks"] for run in runs), default=0)
        features = max((run["features"] for run in runs), default=0)
        yield f"| `{name}` | {executed:,} | {checked:,} | {time:,.0f} | {blocks:,} | {features:,} |"
        total, sanitized, took = total + executed, sanitized + checked, took + time
    yield f"| all | {total:,} | {sanitized:,} | {took:,.0f} | | |"


def save(name: str, count: int) -> None:
    """Keep some of what was found for a target: one input for each thing it reaches, the shortest.

    They are chosen evenly by length, so that there are some that reach deep.

    Arguments:
        count: How many at most.
    """
    merged = FOUND / name / "merged"
    merged.mkdir(parents=True, exist_ok=True)
    found = [path for path in merged.iterdir() if path.stat().st_size <= CORPUS_FILE_BYTES]
    found.sort(key=lambda path: (path.stat().st_size, path.name))
    step = max(1, -(-len(found) // count))
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for path in found[::step]:
        (folder / f"{path.name[:16]}.bin").write_bytes(path.read_bytes())


def main() -> None:
    """Build and fuzz; exit with the fuzzer's status."""
    parser = argparse.ArgumentParser(prog="tools/fuzz.py", description=__doc__)
    parser.add_argument("targets", nargs="*", type=target, help="all if none is named")
    parser.add_argument("--time", type=seconds, default=60, help="seconds for each")
    parser.add_argument("--runs", type=int, default=-1, help="inputs for each; -1 for no limit")
    parser.add_argument("--seed", type=int, default=0, help="of the random choices; 0 for any")
    parser.add_argument("--sanitize", action="store_true", help="check memory and arithmetic too")
    parser.add_argument("--report", action="store_true", help="only say what all runs came to")
    parser.add_argument("--save", action="store_true", help="only keep found inputs in fuzz/corpus")
    parser.add_argument("--keep", type=int, default=CORPUS_FILES, help="so many of each target")
    options = parser.parse_args()
    if options.report:
        print("\n".join(rows()))
        return
    built = build_sanitized() if options.sanitize else build()
    for name in options.targets or targets():
        if options.save:
            if fuzz(built, name, ["--merge"]):
                sys.exit(f"{name}: the inputs cannot be merged")
            save(name, options.keep)
            continue
        limits = ["--time", str(options.time), "--runs", str(options.runs)]
        status = fuzz(built, name, [*limits, "--seed", str(options.seed)])
        if status:
            sys.exit(status)


if __name__ == "__main__":
    main()
