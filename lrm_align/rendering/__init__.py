"""Chat templates are programs of strangers: they run in a process of their own, and what users wrote stays marked.

`process` is our side: it sends templates and conversations and reads texts back. `worker` is the other side, which
imports jinja and nothing else of size: `sandbox` makes the environments, `user_text` and `tracking` mark what users
wrote, `said` looks for it in what was rendered.
"""
