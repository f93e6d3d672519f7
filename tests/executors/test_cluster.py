"""The cluster executor: the contract."""

from __future__ import annotations

import pytest

from dnmf.executors.cluster import Cluster
from dnmf.testing.executor_contract import ExecutorContract

pytestmark = pytest.mark.timeout(120)


class TestCluster(ExecutorContract):
    kind = "cluster"

    @pytest.fixture
    def executor(self, client):
        return Cluster(client)
