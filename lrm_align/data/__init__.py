"""Data that others wrote: from rows in any of the usual shapes to traces with a mask.

`detect.SHAPES` lists the shapes; `reading` reads conversations and holds a share of them out; `rendering` encodes them.
"""

from lrm_align.data.conversation import Conversation
from lrm_align.data.detect import FORMATS
from lrm_align.data.reading import Read, held_out, read
from lrm_align.data.rendering import Rendered, render

__all__ = ["FORMATS", "Conversation", "Read", "Rendered", "held_out", "read", "render"]
