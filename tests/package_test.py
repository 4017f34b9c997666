"""What `import diptych` gives: three functions, and no torch before one of them is used."""

from __future__ import annotations

import pydoc
import subprocess
import sys

import diptych


def test_importing_it_imports_no_torch_and_lists_its_names() -> None:
    lines = "import sys, diptych; assert 'torch' not in sys.modules; print(*dir(diptych))"
    names = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True).stdout.split()
    assert set(diptych.__all__) <= set(names)


def test_help_says_what_each_function_takes_and_raises() -> None:
    text = pydoc.plain(pydoc.render_doc(diptych))
    for name in ("evaluate", "export", "load"):
        assert f"    {name}(" in text
        assert {"Args:", "Returns:", "Raises:"} <= set((getattr(diptych, name).__doc__ or "").split())
