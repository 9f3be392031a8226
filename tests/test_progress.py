"""Progress is readable where there is no terminal."""

import io

from lrm_align.progress import Progress


def test_plain_lines():
    stream = io.StringIO()
    with Progress("sampling", 4, done=1, stream=stream, every=0.0) as progress:
        progress.add()
        progress.tokens(50)
        progress.add()
        progress.add()
        progress.tokens(50)
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("sampling: 2 of 4 traces, ") and lines[0].endswith(" left")
    assert lines[-1].startswith("sampling: 4 of 4 traces, ") and "\x1b" not in stream.getvalue()


def test_few_lines():
    stream = io.StringIO()
    with Progress("sampling", 100, stream=stream) as progress:
        for _ in range(100):
            progress.tokens(1)
            progress.add()
    assert len(stream.getvalue().splitlines()) == 1
