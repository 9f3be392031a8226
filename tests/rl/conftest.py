"""Where jobs meet: a local disk, or a store without rename and append."""

import pytest
from etils import epath

from tests.object_store import ObjectStorePath


@pytest.fixture(params=["disk", "store"])
def shared(request, tmp_path) -> epath.Path:
    """An empty directory of either kind."""
    ObjectStorePath.objects.clear()
    return epath.Path(tmp_path / "shared") if request.param == "disk" else epath.Path("fake://bucket/shared")
