"""The operator's roles are as small as they can be: what the API server saw of it, compared."""

from __future__ import annotations

import pytest

from tests.support.cluster import TestCluster
from tests.support.operator_rights import EVERYTHING, EXERCISED, granted, rendered, used

pytestmark = [pytest.mark.cluster, pytest.mark.last]


def test_every_call_has_a_rule_and_every_rule_a_call(
    cluster: TestCluster, request: pytest.FixtureRequest
) -> None:
    """Looks back at what the operators of all tests of this session did.

    A rule counts only where the test that exercises it was selected, so that a part of the suite
    can be run; what no rule allows is never overlooked.
    """
    ran = {item.nodeid.partition("[")[0] for item in request.session.items}
    if not ran & set(EXERCISED.values()):
        pytest.skip("run it together with the tests of the operator")
    seen = used(cluster)
    assert seen - granted(rendered(cluster, *EVERYTHING)) == set()
    unused = {right: test for right, test in EXERCISED.items() if test in ran and right not in seen}
    assert unused == {}
