"""What containers and batch systems allow."""

from __future__ import annotations

import pytest

from dnmf.executors import control_groups
from dnmf.executors.control_groups import free_memory, memory_limit
from dnmf.executors.local import local_resources

PLENTY = 1_000_000
"""More than this is free where no group says less."""


@pytest.fixture
def groups(monkeypatch, tmp_path):
    """A file system of groups, none of which has a limit, and this process in none of them."""
    monkeypatch.setattr(control_groups, "GROUPS", tmp_path)
    monkeypatch.setattr(control_groups, "OF_THIS", tmp_path / "of-this")
    return tmp_path


def group(folder, limit, used, names=("max", "current"), **stat):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"memory.{names[0]}").write_text(f"{limit}\n")
    (folder / f"memory.{names[1]}").write_text(f"{used}\n")
    (folder / "memory.stat").write_text("".join(f"{k} {v}\n" for k, v in stat.items()))


def test_no_group_has_a_limit(groups):
    assert memory_limit() is None
    assert free_memory() > PLENTY
    group(groups, "max", 600_000)
    assert memory_limit() is None
    assert free_memory() > PLENTY


def test_a_container_is_the_root(groups):
    group(groups, 1_000_000, 600_000)
    (groups / "of-this").write_text("0::/a/name/of/outside\n")
    assert memory_limit() == 1_000_000
    assert free_memory() == 400_000


@pytest.mark.parametrize("limited", ["system/job_7/step_0", "system/job_7", "system"])
def test_a_batch_system_limits_a_group_somewhere_above(groups, limited):
    (groups / "of-this").write_text("0::/system/job_7/step_0\n")
    for folder in ("system", "system/job_7", "system/job_7/step_0", "system/job_8"):
        limit = 900_000 if folder == limited else 10 if folder.endswith("8") else "max"
        group(groups / folder, limit, 200_000)
    assert memory_limit() == 900_000
    assert free_memory() == 700_000


def test_the_first_version_of_groups(groups):
    (groups / "of-this").write_text("4:cpu,memory:/job\n3:cpuset:/job\n0::/\n")
    names = ("limit_in_bytes", "usage_in_bytes")
    group(groups / "memory", 2**63 - 4096, 5 * 10**9, names)
    group(groups / "memory/job", 800_000, 700_000, names, total_inactive_file=250_000)
    assert memory_limit() == 800_000
    assert free_memory() == 350_000


def test_files_in_the_page_cache_are_given_back(groups):
    group(groups, 1_000_000, 990_000, inactive_anon=5, inactive_file=800_000)
    assert free_memory() == 810_000
    group(groups, 1_000_000, 1_200_000)
    assert free_memory() == 0


def test_workers_share_what_the_job_may_use(groups):
    (groups / "of-this").write_text("0::/job\n")
    group(groups / "job", 900_000_000, 0)
    assert local_resources(3, 1).memory_limit == 300_000_000
    assert local_resources(3, 1, 10**12).memory_limit == 900_000_000
