"""What an error of the operating system asks for."""

from __future__ import annotations

import errno
import os

import pytest

from ddqjobs.base.errors import mend


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_hard_links_is_no_matter_of_permissions(number: int) -> None:
    refused = OSError(number, os.strerror(number), "a", None, "b")
    assert mend(refused).startswith("choose a results folder on a file system that knows hard links")
    assert "hard links" not in mend(OSError(number, os.strerror(number), "a"))
