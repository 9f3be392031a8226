"""Traces: the record, shards with manifests, the packing plan and the loader.

The files, in the order in which a trace meets them:

    record.py    Trace: token ids with provenance, and its bytes
    manifest.py  what a shard says about itself
    shards.py    writing, listing, reading and verifying shards
    writer.py    ShardWriter: writing that survives a kill
    packing.py   lengths to rows
    pairs.py     two traces as a preference pair
    plan.py      Plan: which trace stands where in the batch of a step
    store.py     TokenStore: the tokens of many shards as flat arrays
    loader.py    Loader: batches, by Grain
    show.py      a trace as readable text; `python -m lrm_align.traces SHARD…` prints it
"""

from lrm_align.traces import pairs
from lrm_align.traces.loader import Loader
from lrm_align.traces.manifest import Manifest
from lrm_align.traces.plan import Layout, Plan, rescale
from lrm_align.traces.record import Trace
from lrm_align.traces.shards import Shard, ShardReader, find_shards, list_shards, read_shard, verify, write_shard
from lrm_align.traces.store import TokenStore
from lrm_align.traces.writer import ShardWriter

__all__ = [
    "Layout",
    "Loader",
    "Manifest",
    "Plan",
    "Shard",
    "ShardReader",
    "ShardWriter",
    "TokenStore",
    "Trace",
    "find_shards",
    "list_shards",
    "pairs",
    "read_shard",
    "rescale",
    "verify",
    "write_shard",
]
