"""Remedies for errors of the operating system."""

from __future__ import annotations

import errno
import os

import pytest

from ddqjobs.base.errors import mend, refusal


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_hard_links_is_no_matter_of_permissions(number: int) -> None:
    refused = OSError(number, os.strerror(number), "a", None, "b")
    assert mend(refused).startswith("choose a results folder on a file system that knows hard links")
    assert "hard links" not in mend(OSError(number, os.strerror(number), "a"))


def test_each_fault_of_a_disk_has_its_own_remedy() -> None:
    numbers = [errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.EROFS, errno.EACCES]
    messages = [refusal(OSError(number, os.strerror(number), "a")) for number in numbers]
    assert len({message.partition("; ")[2] for message in messages}) == len(numbers)
    assert all("; " in message for message in messages)
    assert refusal(OSError(errno.ENOENT, "No such file or directory", "a")) == "No such file or directory"
