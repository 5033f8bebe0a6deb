"""Which instructions a processor has, as a hash."""

from __future__ import annotations

from pathlib import Path

from runtime.onnx.prepared_model import processor_features


def test_only_vector_instructions_decide(tmp_path: Path) -> None:
    """A kernel that reports another flag is the same processor; another instruction is another."""
    texts = {
        "one": "processor : 0\nflags : fpu sse2 avx2 fma lm\n\nprocessor : 1\nflags : fpu\n",
        "new kernel": "flags\t\t: lm fpu fma sse2 ibrs avx2\n",
        "other": "flags : fpu sse2 avx2 fma avx512_vnni\n",
        "arm": "Features : fp asimd i8mm\n",
    }
    found = {}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        found[name] = processor_features(tmp_path / name)
    assert found["one"] == found["new kernel"]
    assert len(set(found.values())) == 3


def test_a_system_that_lists_no_features_is_known_by_its_name(tmp_path: Path) -> None:
    """The same each time."""
    assert processor_features(tmp_path / "none") == processor_features(tmp_path / "neither")
