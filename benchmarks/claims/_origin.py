"""When a definition was written: its commit, and that nothing in it changed since."""

from __future__ import annotations

import hashlib
import subprocess
import sys

from _claim import HERE


def fingerprint(name: str) -> str:
    """A hash of the claim's file: runs of another definition are never taken for runs of this one."""
    return hashlib.sha256((HERE / f"{name}.py").read_bytes()).hexdigest()[:16]


def committed(name: str) -> dict[str, str]:
    """Commit and date of the definition; ends the program where it or the threshold has changes of its own."""
    files = [f"{name}.py", *(path.name for path in HERE.glob("_*.py")), "_measures"]
    if changed := _git("status", "--porcelain", "--", *files):
        sys.exit(
            f"definition and threshold must be committed before the runs; commit these, or give --draft:\n{changed}"
        )
    commit, _, date = _git("log", "-1", "--format=%H %cI", "--", f"{name}.py").partition(" ")
    return {"file": f"benchmarks/claims/{name}.py", "commit": commit, "committed": date}


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"git {arguments[0]} failed: {done.stderr.strip()}; give --draft where there is no repository")
    return done.stdout.strip()
