"""Settings: what a config may say, where each number is defined, and which of them can change a result.

A setting is one field of a frozen dataclass (`setting`). Range checks (`check`), the fingerprints of stages (`counted`)
and what factories are called with (`check_factories`) are computed from these fields; nothing lists them a second time.
"""

from lrm_align.settings.checking import check as check
from lrm_align.settings.checking import counted as counted
from lrm_align.settings.checking import made as made
from lrm_align.settings.factories import added_arguments as added_arguments
from lrm_align.settings.factories import check_factories as check_factories
from lrm_align.settings.run import RunSettings as RunSettings
from lrm_align.settings.setting import Setting as Setting
from lrm_align.settings.setting import fields as fields
from lrm_align.settings.setting import paths as paths
from lrm_align.settings.setting import setting as setting
from lrm_align.settings.setting import takes as takes
