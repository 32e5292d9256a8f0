"""Checking a license by itself, before there is a trial.

status = nnguard.licensing.check("acme.license", trust="vendor.pub")
"""

from __future__ import annotations

from nnguard._crypto.trust import Trust
from nnguard._licensing.policy import (
    LicenseLike,
    Policy,
    Status,
    as_license,
    check_license,
    license_of,
)
from nnguard._operations.authority import authority_of
from nnguard._policy.policy import PolicyLike

__all__ = ["check"]


def check(
    license: LicenseLike,  # noqa: A002
    trust: Trust | None = None,
    *,
    policy: PolicyLike | None = None,
    license_policy: Policy | None = None,
) -> Status:
    """Check that a trusted vendor signed a license and that it holds here and now.

    Whether it fits a model and a customer's key, `nnguard.unlock` checks; also, under a trust
    policy, whether its key may sign for that model.

    Args:
        license: A license, a lease, or the path of one.
        trust: Trusted keys; see `nnguard.verify`.
        policy: Trust policy, in place of trusted keys: one of its rules has the license's key.
        license_policy: What else to ask.

    Raises:
        WrongKeyError: It is signed by a key that is not trusted, or the revocation list by another
            than the license.
        PolicyError: By the trust policy, the key may sign for no release any more; or the policy is
            malformed.
        LicenseError: It was changed, or does not hold; `reason` says why.

    Examples:
        >>> licensing.check("me.license", "vendor.pub").terms.customer
        'Ada Ltd.'
    """
    authority = authority_of(trust, policy)
    found = as_license(license)
    status = check_license(found, authority.keys, license_policy)
    authority.refuse_useless(license_of(found))
    return status
