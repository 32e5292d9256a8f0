"""OpenSSF Model Signing: bundles that other tools verify, and theirs.

A vendor signs a release twice, inside its weights and beside its files:

    release = nnguard.sign("digits-streams", "vendor.key", name="digits")
    nnguard.oms.save(release, "digits-release", "model.sig", "oms.key")

A deployment checks both; each byte is read once:

    bundle = nnguard.oms.Bundle.open("model.sig", trust="oms.pub")
    report = nnguard.verify("digits-release", "vendor.pub", oms=bundle)

`sign` and `Bundle.check` are for any folder, of whatever files.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnguard._oms.bundle import Bundle
    from nnguard._oms.signing import save, sign

__all__ = ["Bundle", "save", "sign"]

if not TYPE_CHECKING:  # a type checker knows the names above, and reports all others
    from nnguard._base.lazy import loader

    __getattr__ = loader(__name__, {"_oms.bundle": "Bundle", "_oms.signing": "save sign"})

    def __dir__() -> list[str]:
        return __all__
