"""Writes a bill of materials (CycloneDX 1.6, JSON) beside a wheel: what is in it, what it needs.

    python supply/sbom.py WHEEL

Versions are those installed here, which the wheel was built and tested with. The same wheel and
the same packages give the same bytes: the serial number is made of the wheel's hash, and the time
is SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import hashlib
import os
import sys
import uuid
from datetime import datetime, timezone
from importlib.metadata import distribution, requires
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.utils import canonicalize_name

from packages import LINKED, ROBIN_MAP, applicable, closure, license_of, version_of


def main(wheel: Path) -> None:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    product = component("nnguard")
    product.hashes.add(HashType(alg=HashAlgorithm.SHA_256, content=digest))
    product.components.update(component(name) for name in LINKED)
    needed = {name: component(name) for name in closure(["nnguard"]) - {"nnguard"}}
    time = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), timezone.utc)
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_OID, digest),
        metadata=BomMetaData(component=product, timestamp=time),
        components=needed.values(),
    )
    for name, each in {"nnguard": product, **needed}.items():
        inner = {canonicalize_name(r.name) for r in applicable(requires(name) or [])}
        bom.register_dependency(each, [needed[name] for name in inner])
    bom.register_dependency(product, product.components)
    outputter = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6)
    wheel.with_name(f"{wheel.name}.cdx.json").write_text(outputter.output_as_string(indent=2))


def component(name: str) -> Component:
    words = LINKED.get(name) or license_of(distribution(name))
    purl = PackageURL("generic" if name == ROBIN_MAP else "pypi", None, name, version_of(name))
    return Component(
        name=name,
        version=version_of(name),
        bom_ref=str(purl),
        purl=purl,
        licenses=[LicenseFactory().make_from_string(words)],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
