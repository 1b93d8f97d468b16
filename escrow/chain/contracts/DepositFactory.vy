# pragma version 0.4.3
# pragma evm-version cancun
"""
@title DepositFactory
@notice Gives every salt a deposit address (CREATE2, EIP-1167) whose money can only go to the treasury.
@dev The implementation is created by the constructor, so its address follows from the factory's own (nonce 1), and a
     deposit address from factory and salt alone. Clones are deployed by the first sweep that needs them.
"""

interface Forwarder:
    def sweep(token: address) -> uint256: nonpayable


event Swept:
    forwarder: indexed(address)
    token: indexed(address)
    amount: uint256

event SweepFailed:
    forwarder: indexed(address)
    token: indexed(address)

event TreasuryProposed:
    treasury: indexed(address)
    usable_at: uint256

event TreasuryProposalWithdrawn:
    treasury: indexed(address)

event TreasuryChanged:
    earlier: indexed(address)
    treasury: indexed(address)


TREASURY_DELAY: public(constant(uint256)) = 172800  # 48 h: time to see a proposal nobody of ours made
MAX_SALTS: constant(uint256) = 200

OWNER: public(immutable(address))
IMPLEMENTATION: public(immutable(address))

treasury: public(address)
proposed_treasury: public(address)
proposal_usable_at: public(uint256)


@deploy
def __init__(forwarder_blueprint: address, owner: address, treasury: address):
    assert owner != empty(address) and treasury != empty(address), "zero address"
    OWNER = owner
    IMPLEMENTATION = create_from_blueprint(forwarder_blueprint)
    self.treasury = treasury
    log TreasuryChanged(earlier=empty(address), treasury=treasury)


@external
@view
def address_of(salt: bytes32) -> address:
    """
    @notice The deposit address of `salt`, deployed or not.
    """
    return self._address_of(salt)


@external
def sweep(salts: DynArray[bytes32, MAX_SALTS], token: address):
    """
    @notice Move all `token` of these deposit addresses to the treasury. Anyone may call.
    @dev One that fails is logged and does not stop the others.
    """
    for salt: bytes32 in salts:
        forwarder: address = self._address_of(salt)
        if not forwarder.is_contract:
            deployed: address = create_minimal_proxy_to(IMPLEMENTATION, salt=salt)
            assert deployed == forwarder, "unexpected address"
        success: bool = False
        answer: Bytes[32] = b""
        success, answer = raw_call(
            forwarder,
            abi_encode(token, method_id=method_id("sweep(address)")),
            max_outsize=32,
            revert_on_failure=False,
        )
        if success:
            log Swept(forwarder=forwarder, token=token, amount=convert(answer, uint256))
        else:
            log SweepFailed(forwarder=forwarder, token=token)


@external
def propose_treasury(treasury: address):
    """
    @notice First step of a change of treasury: it can be accepted after 48 h. A newer proposal replaces an older one.
    """
    assert msg.sender == OWNER, "not the owner"
    assert treasury != empty(address), "zero address"
    self.proposed_treasury = treasury
    self.proposal_usable_at = block.timestamp + TREASURY_DELAY
    log TreasuryProposed(treasury=treasury, usable_at=self.proposal_usable_at)


@external
def withdraw_proposal():
    """
    @notice Drop the open proposal.
    """
    assert msg.sender == OWNER, "not the owner"
    log TreasuryProposalWithdrawn(treasury=self.proposed_treasury)
    self.proposed_treasury = empty(address)
    self.proposal_usable_at = 0


@external
def accept_treasury():
    """
    @notice Second step: from now on every sweep goes to the proposed treasury.
    """
    assert msg.sender == OWNER, "not the owner"
    assert self.proposed_treasury != empty(address), "nothing proposed"
    assert block.timestamp >= self.proposal_usable_at, "too early"
    log TreasuryChanged(earlier=self.treasury, treasury=self.proposed_treasury)
    self.treasury = self.proposed_treasury
    self.proposed_treasury = empty(address)
    self.proposal_usable_at = 0


@internal
@view
def _address_of(salt: bytes32) -> address:
    # The init code vyper's create_minimal_proxy_to uses: a 9-byte loader and the EIP-1167 runtime.
    init_code_hash: bytes32 = keccak256(
        concat(
            x"602d3d8160093d39f3363d3d373d3d3d363d73",
            convert(IMPLEMENTATION, bytes20),
            x"5af43d82803e903d91602b57fd5bf3",
        )
    )
    digest: bytes32 = keccak256(concat(x"ff", convert(self, bytes20), salt, init_code_hash))
    return convert(convert(digest, uint256) & convert(max_value(uint160), uint256), address)
