"""Every component against every contract; both lists come from the tree."""

import pytest

from runner import contracts


@pytest.mark.parametrize("contract", contracts.CONTRACTS, ids=lambda c: c.__name__)
@pytest.mark.parametrize(("group", "option"), contracts.components(), ids=map("/".join, contracts.components()))
def test_contract(group, option, contract):
    try:
        contract(group, option)
    except contracts.Skip as reason:
        pytest.skip(str(reason))
