"""What differs between two machines of the record, and so may be why results do."""

from __future__ import annotations

from collections.abc import Mapping

BEFORE_LIBRARIES = {"lock_sha256": "requirements.lock (SHA-256)"}
AFTER_LIBRARIES = {
    "python": "Python",
    "variables": "variables that choose threads or instructions",
    "cpu_features": "the processor's instructions",
    "cpu": "processor",
    "usable_cpus": "processors that it may use, and so threads",
    "cpu_count": "processors",
    "gpu": "GPU",
    "gpu_driver": "driver of the GPU",
    "image": "image",
    "platform": "platform and C library",
}
"""What `environment.describe` names, the likeliest cause first, and what people call it."""

NUMERIC = ("torch", "xgboost", "numpy", "polars", "polars-runtime-32", "pyarrow", "pandas", "scipy")
"""Libraries that compute; they are named before others."""
MOST_NAMED = 5


def causes(recorded: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """Say what differs between two records of `environment.json`, the likeliest cause first.

    What one of both does not tell, as an older record, is left out.
    """
    return [
        *_described(BEFORE_LIBRARIES, recorded, here),
        *_libraries(recorded, here),
        *_described(AFTER_LIBRARIES, recorded, here),
    ]


def _described(
    names: Mapping[str, str], recorded: Mapping[str, str], here: Mapping[str, str]
) -> list[str]:
    return [
        f"{words}: {_changed(key, recorded[key], here[key])}"
        for key, words in names.items()
        if key in recorded and key in here and recorded[key] != here[key]
    ]


def _changed(key: str, before: str, now: str) -> str:
    """Say what a text was and is; of a list of words only those that came and went."""
    if key == "lock_sha256":
        return f"{before[:8]} -> {now[:8]}"
    if key not in {"cpu_features", "variables"}:
        return f"{before} -> {now}"
    was, is_now = before.split(), now.split()
    gone = [word for word in was if word not in is_now and word != "none"]
    come = [word for word in is_now if word not in was and word != "none"]
    signed = [*(f"-{word}" for word in gone), *(f"+{word}" for word in come)]
    return " ".join(signed) or f"{before} -> {now}"


def _libraries(recorded: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """Sum up which libraries are of another version, and what is installed only at one place."""
    described = {*BEFORE_LIBRARIES, *AFTER_LIBRARIES}
    was, are = (
        {name: text for name, text in each.items() if name not in described}
        for each in (recorded, here)
    )
    if not (was and are):
        return []
    said = []
    changed = _ranked({name for name in was.keys() & are.keys() if was[name] != are[name]})
    if changed:
        named = ", ".join(f"{name} {was[name]} -> {are[name]}" for name in changed[:MOST_NAMED])
        said.append(f"libraries: {named}{_more(changed)}")
    for names, where in ((was.keys() - are.keys(), "there"), (are.keys() - was.keys(), "here")):
        if names:
            ranked = _ranked(names)
            named = ", ".join(ranked[:MOST_NAMED])
            said.append(f"installed only {where}: {named}{_more(ranked)}")
    return said


def _ranked(names: set[str]) -> list[str]:
    """Order names: those that compute first."""
    return sorted(names, key=lambda name: (_rank(name), name))


def _rank(name: str) -> int:
    if name in NUMERIC:
        return NUMERIC.index(name)
    return len(NUMERIC) + (not name.startswith("nvidia-"))


def _more(names: list[str]) -> str:
    return f", and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
