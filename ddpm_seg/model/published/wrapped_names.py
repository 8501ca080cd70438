"""Names of weights in checkpoints of networks that torch had wrapped, for DataParallel or torch.compile."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Parts that torch's wrappers add to the names of weights: torch.compile, FSDP and activation checkpointing.
# DataParallel's "module" could be an ordinary name, so it counts only if every name begins with it.
_WRAPPER = re.compile(r"(?<![^.])_(orig_mod|fsdp_wrapped_module|checkpoint_wrapped_module)\.")


def unwrapped_names(keys: Iterable[str]) -> dict[str, str]:
    """For each key in a file, the weight's name in the network itself.

    All keys stay unchanged if two of them would become equal.
    """
    names = {key: _WRAPPER.sub("", key) for key in keys}
    while names and all(name.startswith("module.") for name in names.values()):
        names = {key: name.removeprefix("module.") for key, name in names.items()}
    return names if len(set(names.values())) == len(names) else {key: key for key in names}
