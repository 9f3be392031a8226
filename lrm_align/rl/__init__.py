"""Learning from the model's own rollouts: groups of samples with scores, credit, batches, and the loop over policies.

task ─► source (one program, or a bucket that samplers fill) ─► groups ─► credit ─► batches ─► train step
             ▲                                                                                     │
             └───────────────────────────── policy n + 1 ◄────────────────────────────────────────┘
"""
