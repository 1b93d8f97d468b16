# pragma version 0.4.3
# pragma evm-version cancun
"""
@title TestUSDC
@notice The part of USDC (FiatTokenV2) that Bailee meets: ERC-20, ERC-3009, pause and blacklist. For local chains only.
@dev Names, events, error texts and the EIP-712 domain ("USD Coin", "2") are those of USDC. The owner mints for nothing.
"""
from ethereum.ercs import IERC20

implements: IERC20


event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    amount: uint256

event Approval:
    owner: indexed(address)
    spender: indexed(address)
    amount: uint256

event AuthorizationUsed:
    authorizer: indexed(address)
    nonce: indexed(bytes32)

event AuthorizationCanceled:
    authorizer: indexed(address)
    nonce: indexed(bytes32)

event Pause: pass

event Unpause: pass

event Blacklisted:
    account: indexed(address)

event UnBlacklisted:
    account: indexed(address)


name: public(constant(String[8])) = "USD Coin"
symbol: public(constant(String[4])) = "USDC"
version: public(constant(String[1])) = "2"
decimals: public(constant(uint8)) = 6

DOMAIN_TYPEHASH: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
TRANSFER_WITH_AUTHORIZATION_TYPEHASH: public(constant(bytes32)) = keccak256(
    "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
CANCEL_AUTHORIZATION_TYPEHASH: public(constant(bytes32)) = keccak256(
    "CancelAuthorization(address authorizer,bytes32 nonce)"
)
# Half of the curve's order: a signature with a larger s is the mirror image of one that was already seen (EIP-2).
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168

owner: public(immutable(address))
paused: public(bool)
totalSupply: public(uint256)
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
authorizationState: public(HashMap[address, HashMap[bytes32, bool]])
isBlacklisted: public(HashMap[address, bool])


@deploy
def __init__():
    owner = msg.sender


@external
def mint(receiver: address, amount: uint256) -> bool:
    assert msg.sender == owner, "FiatToken: caller is not a minter"
    self._require_not_paused()
    self._require_not_blacklisted(receiver)
    assert receiver != empty(address), "FiatToken: mint to the zero address"
    self.totalSupply += amount
    self.balanceOf[receiver] += amount
    log Transfer(sender=empty(address), receiver=receiver, amount=amount)
    return True


@external
def transfer(receiver: address, amount: uint256) -> bool:
    self._require_not_paused()
    self._require_not_blacklisted(msg.sender)
    self._require_not_blacklisted(receiver)
    self._move(msg.sender, receiver, amount)
    return True


@external
def approve(spender: address, amount: uint256) -> bool:
    self._require_not_paused()
    self.allowance[msg.sender][spender] = amount
    log Approval(owner=msg.sender, spender=spender, amount=amount)
    return True


@external
def transferFrom(sender: address, receiver: address, amount: uint256) -> bool:
    self._require_not_paused()
    self._require_not_blacklisted(msg.sender)
    self._require_not_blacklisted(sender)
    self._require_not_blacklisted(receiver)
    assert amount <= self.allowance[sender][msg.sender], "ERC20: transfer amount exceeds allowance"
    self.allowance[sender][msg.sender] -= amount
    self._move(sender, receiver, amount)
    return True


@external
def transferWithAuthorization(
    sender: address,
    receiver: address,
    amount: uint256,
    valid_after: uint256,
    valid_before: uint256,
    nonce: bytes32,
    v: uint8,
    r: bytes32,
    s: bytes32,
):
    """
    @notice ERC-3009: move what `sender` signed for, once per nonce. Anyone may submit it.
    """
    self._require_not_paused()
    self._require_not_blacklisted(sender)
    self._require_not_blacklisted(receiver)
    assert block.timestamp > valid_after, "FiatTokenV2: authorization is not yet valid"
    assert block.timestamp < valid_before, "FiatTokenV2: authorization is expired"
    self._require_unused(sender, nonce)
    self._require_signature(
        sender,
        keccak256(
            abi_encode(
                TRANSFER_WITH_AUTHORIZATION_TYPEHASH, sender, receiver, amount, valid_after, valid_before, nonce
            )
        ),
        v, r, s,
    )
    self.authorizationState[sender][nonce] = True
    log AuthorizationUsed(authorizer=sender, nonce=nonce)
    self._move(sender, receiver, amount)


@external
def cancelAuthorization(authorizer: address, nonce: bytes32, v: uint8, r: bytes32, s: bytes32):
    """
    @notice ERC-3009: make a nonce unusable.
    """
    self._require_not_paused()
    self._require_unused(authorizer, nonce)
    self._require_signature(
        authorizer, keccak256(abi_encode(CANCEL_AUTHORIZATION_TYPEHASH, authorizer, nonce)), v, r, s
    )
    self.authorizationState[authorizer][nonce] = True
    log AuthorizationCanceled(authorizer=authorizer, nonce=nonce)


@external
@view
def DOMAIN_SEPARATOR() -> bytes32:
    return self._domain_separator()


@external
def pause():
    assert msg.sender == owner, "Pausable: caller is not the pauser"
    self.paused = True
    log Pause()


@external
def unpause():
    assert msg.sender == owner, "Pausable: caller is not the pauser"
    self.paused = False
    log Unpause()


@external
def blacklist(account: address):
    assert msg.sender == owner, "Blacklistable: caller is not the blacklister"
    self.isBlacklisted[account] = True
    log Blacklisted(account=account)


@external
def unBlacklist(account: address):
    assert msg.sender == owner, "Blacklistable: caller is not the blacklister"
    self.isBlacklisted[account] = False
    log UnBlacklisted(account=account)


@internal
def _move(sender: address, receiver: address, amount: uint256):
    assert receiver != empty(address), "ERC20: transfer to the zero address"
    assert amount <= self.balanceOf[sender], "ERC20: transfer amount exceeds balance"
    self.balanceOf[sender] -= amount
    self.balanceOf[receiver] += amount
    log Transfer(sender=sender, receiver=receiver, amount=amount)


@internal
@view
def _require_not_paused():
    assert not self.paused, "Pausable: paused"


@internal
@view
def _require_not_blacklisted(account: address):
    assert not self.isBlacklisted[account], "Blacklistable: account is blacklisted"


@internal
@view
def _require_unused(authorizer: address, nonce: bytes32):
    assert not self.authorizationState[authorizer][nonce], "FiatTokenV2: authorization is used or canceled"


@internal
@view
def _require_signature(signer: address, struct_hash: bytes32, v: uint8, r: bytes32, s: bytes32):
    assert convert(s, uint256) <= HALF_ORDER, "ECRecover: invalid signature 's' value"
    digest: bytes32 = keccak256(concat(x"1901", self._domain_separator(), struct_hash))
    recovered: address = ecrecover(digest, v, r, s)
    assert recovered != empty(address) and recovered == signer, "FiatTokenV2: invalid signature"


@internal
@view
def _domain_separator() -> bytes32:
    return keccak256(abi_encode(DOMAIN_TYPEHASH, keccak256(name), keccak256(version), chain.id, self))
