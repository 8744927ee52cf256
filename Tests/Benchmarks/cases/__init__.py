"""One module per benchmark, in the order in which they run."""

from cases import fanout, first_sync, idle, memory, patch, rename, single_change, start, updates

ALL = [
    first_sync.FILES,
    first_sync.FILE,
    single_change.CASE,
    updates.CASE,
    start.CASE,
    patch.CASE,
    rename.CASE,
    fanout.CASE,
    idle.CASE,
    memory.CASE,
]
