"""`verify`, `strip`."""

from __future__ import annotations

from collections.abc import Iterator

import click

import nnguard
from nnguard import errors
from nnguard._cli.commands import Options, command
from nnguard._cli.failures import as_values, check_uninterrupted, describe, exit_code_of
from nnguard._cli.inputs import name_of, open_model
from nnguard._cli.options import (
    AUTHORITY,
    OMS,
    REMEMBERED,
    argument,
    authority,
    bundle_of,
    option,
    output,
    read_expected,
    under,
)
from nnguard._cli.output import Outcome, progress_bar

__all__ = ["ALLOW_TRIAL", "EXPECT", "expect_of", "run_strip", "run_verify"]

ALLOW_TRIAL = option("--allow-trial", "Accept a locked trial, too, which is not the product.")

_NAMED = 5
"""Files that are not covered which are named; JSON has all."""

EXPECT = under(
    "Expect",
    option("--name TEXT", "The release has this name.", read=read_expected),
    option("--issuer TEXT", "This issuer signed it.", read=read_expected),
    option(
        "--version VERSION",
        'It has this version, or one such as ">=1.2" or ">=1.2,<2".',
        read=read_expected,
    ),
    option("--release N", "It has this release number, or a higher one."),
    option("--issued-after DATE", "It was signed after that, such as 2027-12-31."),
)


@command(
    argument("FILE...", "Signed streams, or folders of them; - is standard input."),
    AUTHORITY,
    REMEMBERED,
    EXPECT,
    ALLOW_TRIAL,
    OMS,
)
def run_verify(options: Options) -> Outcome:
    """Check that a file is what a trusted vendor signed.

    Check every bit of a file against the signature in it. Exit code 0 means that it is what the
    vendor signed, and that it has the name, issuer, version and date that you expect; nothing
    else does. Of several files, the exit code is that of the first failure.

    Examples:
      nnguard verify release.nnc --trust vendor.pub --name resnet56 --version ">=1.2"
      nnguard verify release.nnc --policy acme.policy --state /var/lib/nnguard/state
      nnguard verify models/*.nnc --trust /etc/nnguard/trust --quiet
      curl -s https://acme.ai/release.nnc | nnguard verify - --trust vendor.pub --json
      nnguard verify release --trust vendor.pub --oms release/model.sig --oms-trust oms.pub
    """
    expect = expect_of(options)
    if len(options.files) > 1:
        if options.oms is not None:
            raise click.UsageError("a bundle is of one model: verify one after the other")
        return _verify_many(options, expect)
    report = _verify(options.files[0], options, expect, bundle_of(options)())
    return Outcome(report.to_json(), _lines(options.files[0], report))


def expect_of(options: Options) -> nnguard.Expect:
    """Return what the options expect of a release."""
    return nnguard.Expect(
        name=options.name or "",
        issuer=options.issuer or "",
        version=options.version or "",
        issued_after=options.issued_after,
        release=options.release,
    )


def _verify(
    file: str,
    options: Options,
    expect: nnguard.Expect,
    bundle: nnguard.oms.Bundle | None = None,
) -> nnguard.Report:
    model = open_model(file)
    with progress_bar(model.size, "Verifying") as progress:
        return nnguard.verify(
            model,
            **authority(options),
            expect=expect,
            allow_trial=options.allow_trial,
            oms=bundle,
            progress=progress,
        )


def _verify_many(options: Options, expect: nnguard.Expect) -> Outcome:
    """Verify one file after the other; what fails is told at once."""
    values, lines, codes = {}, [], []
    for file in options.files:
        try:
            report = _verify(file, options, expect)
        except (errors.NnguardError, OSError) as error:
            check_uninterrupted(error)
            codes.append(exit_code_of(error))
            values[file] = as_values(error)
            if not options.json:
                describe(error, as_json=False, about=file)
        else:
            values[file] = {"ok": True, **report.to_json()}
            claims = report.claims
            said = f"{name_of(file)} {claims.issuer} {claims.name} {claims.version}".rstrip()
            lines.append(f"{_verdict(report)}: {said}")
    return Outcome({"files": values}, lines, codes[0] if codes else 0)


def _verdict(report: nnguard.Report) -> str:
    return "Verified, a LOCKED TRIAL" if report.locked else "Verified"


def _lines(file: str, report: nnguard.Report) -> Iterator[str]:
    yield f"{_verdict(report)}: {name_of(file)}"
    for label, value in _facts(report):
        if value:
            yield f"  {label:<11} {value}"
    if others := report.not_covered:
        more = len(others) - _NAMED
        names = ", ".join(others[:_NAMED]) + (f" and {more} more" if more > 0 else "")
        files = "1 file is" if len(others) == 1 else f"{len(others)} files are"
        yield f"  {files} NOT covered by the signature: {names}"


def _facts(report: nnguard.Report) -> Iterator[tuple[str, str]]:
    claims = report.claims
    yield "issuer", claims.issuer
    yield "name", claims.name
    yield "version", claims.version
    yield "release", "" if claims.release is None else str(claims.release)
    yield "issued at", "" if claims.issued_at is None else claims.issued_at.isoformat()
    for key, value in claims.metadata.items():
        yield "meta", f"{key}={value}"
    yield "key", f"{report.key_id} ({report.algorithm})"
    for below in report.signatures[1:]:
        yield "and by", f"{below.key_id}{'' if below.counts else ', does not count'}"
    if (rule := report.policy) is not None:
        yield "policy", f"version {rule.version}, {', '.join(rule.scopes)}, {rule.level}"
    yield "digest", report.digest
    if claims.shard is not None and not report.shards:
        yield "shard", f"{claims.shard.position + 1} of {claims.shard.count}"
    for name in report.shards:
        yield "shard", name
    if report.oms is not None:
        yield "OMS bundle", f"{report.oms.path}, signed with key {report.oms.key_id}"
    if (license_ := report.licensed_to) is not None:
        yield "licensed to", f"{license_.customer} (license {license_.id})".strip()
    for record in report.nested:
        trusted = ", by a trusted key" if record.verified else ""
        name = record.claims.name if record.claims is not None else ""
        yield "inside", f"{record.kind} {name}{trusted}".strip()


@command(
    argument("FILE", "Signed stream, or a folder of them."),
    output("Original stream, or folder of streams,"),
    AUTHORITY,
    REMEMBERED,
    ALLOW_TRIAL,
    OMS,
)
def run_strip(options: Options) -> Outcome:
    """Verify, and get the original back.

    The original is what was signed, byte for byte.

    Examples:
      nnguard strip release.nnc -o model.nnc --trust vendor.pub
    """
    bundle = bundle_of(options)()
    model = open_model(options.file)
    with progress_bar(model.size, "Verifying") as progress:
        original = nnguard.strip(
            model,
            **authority(options),
            allow_trial=options.allow_trial,
            oms=bundle,
            progress=progress,
        )
    original.save(options.output, overwrite=options.force)
    return Outcome(
        {"file": options.output, "size": original.size},
        [f"Verified, and stripped: {options.output}, {original.size:,} bytes"],
    )
