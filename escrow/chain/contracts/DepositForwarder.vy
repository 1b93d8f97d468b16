# pragma version 0.4.3
# pragma evm-version cancun
"""
@title DepositForwarder
@notice What stands behind every deposit address: it can do one thing, send a token to the treasury.
@dev Clones (EIP-1167) run this code. FACTORY is part of the code, so there is no storage and nothing to initialise,
     and whoever calls, the destination is the same. Calling the bare implementation moves its own balance there too.
"""
from ethereum.ercs import IERC20


interface Factory:
    def treasury() -> address: view


FACTORY: public(immutable(address))


@deploy
def __init__():
    FACTORY = msg.sender


@external
def sweep(token: address) -> uint256:
    """
    @notice Send the whole balance of `token` to the treasury the factory names.
    @return What was sent, in the token's units.
    """
    amount: uint256 = staticcall IERC20(token).balanceOf(self)
    if amount > 0:
        treasury: address = staticcall Factory(FACTORY).treasury()
        assert extcall IERC20(token).transfer(treasury, amount, default_return_value=True), "transfer refused"
    return amount
