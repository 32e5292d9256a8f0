"""`sign`."""

from __future__ import annotations

from pathlib import Path

import click

import nnguard
from nnguard._cli.commands import Options, command
from nnguard._cli.compression import CODING, compress_model, has_settings
from nnguard._cli.inputs import open_model
from nnguard._cli.keys import SIGNING_KEY, load_signer
from nnguard._cli.options import argument, check_output, option, output, under
from nnguard._cli.output import Outcome, progress_bar, warn
from nnguard._crypto.ecdsa import EcdsaKey
from nnguard._oms.bundle import place_in
from nnguard.errors import FormatError

__all__ = ["run_sign"]

_MANY_WEIGHTS = 1 << 22
"""Where a signature goes into more weights than this, people are told what that costs."""


@command(
    argument("MODEL", "Stream; model file, compressed first; or folder of shards of either."),
    output("Signed stream, or folder of streams,"),
    SIGNING_KEY,
    option("--issuer TEXT", "Who signs, such as a domain."),
    option("--name TEXT", "What is signed."),
    option("--version TEXT", "Version of the release."),
    option("--release N", "Release number, which only grows; against rollback."),
    option("--meta KEY=VALUE...", "Anything else to sign; may be repeated."),
    option("--localize", "Let verify name tensors that were changed; takes 4 bytes a unit."),
    option(
        "--countersign PATH...",
        "Verify the signature that is there with these trusted keys, and sign its claims.",
    ),
    CODING,
    under(
        "OpenSSF Model Signing",
        option("--oms INNER", "Write a bundle for the release, too: beside it, or in its folder."),
        option(
            "--oms-key FILE",
            "Private ECDSA key that signs it: a PEM file, or pkcs11:... in a token.",
        ),
    ),
)
def run_sign(options: Options) -> Outcome:
    r"""Sign a model inside its own weights.

    The signature travels in the quantized weights; every NNCodec decoder reads the signed file.

    Examples:
      nnguard sign model.nnc -o release.nnc --key vendor.key \
          --issuer acme.ai --name resnet56 --version 1.0 --meta git=4f2a91c
      nnguard sign model.safetensors -o release.nnc --key vendor.key --qp -32
      nnguard sign streams -o release --key vendor.key
      nnguard sign streams -o release --key vendor.key --oms release/model.sig --oms-key oms.key
      nnguard sign release.nnc -o both.nnc --key auditor.key --countersign vendor.pub
    """
    bundle_key = _bundle_key(options)
    key = load_signer(options.key, options.passphrase_file)
    model = _compressed(options)
    with progress_bar(model.size, "Signing") as progress:
        signed = nnguard.sign(
            model,
            key,
            issuer=options.issuer,
            name=options.name,
            version=options.version,
            release=options.release,
            metadata=dict(options.meta),
            countersign=options.countersign or None,
            localize=options.localize,
            progress=progress,
            planned=_warn_of_many,
        )
    before, after, key_id = model.size, signed.size, key.public_key.id.hex()
    growth = 100 * (after - before) / before
    values = {"file": options.output, "key_id": key_id, "size_before": before, "size": after}
    lines = [f"Signed with key {key_id}: {options.output}, {after:,} bytes ({growth:+.3f} %)"]
    if bundle_key is None:
        signed.save(options.output, overwrite=options.force)
    else:
        nnguard.oms.save(signed, options.output, options.oms, bundle_key, overwrite=options.force)
        hint = EcdsaKey.from_pem(bundle_key.public_key.pem).hint
        values["oms"] = {"file": options.oms, "key_id": hint}
        lines.append(f"OMS bundle: {options.oms}, signed with key {hint}")
    return Outcome(values, lines)


def _bundle_key(options: Options) -> nnguard.Signer | None:
    """Return what signs a bundle, if there is to be one."""
    if options.oms is None and options.oms_key is None:
        return None
    if options.oms is None or options.oms_key is None:
        raise click.UsageError("--oms and --oms-key belong together: give both")
    if not place_in(Path(options.output), Path(options.oms)):
        check_output(Path(options.oms), overwrite=options.force)
    return load_signer(options.oms_key, None)


def _compressed(options: Options) -> nnguard.Stream | nnguard.StreamSet:
    """Open what is to be signed, or compress it where it is not a stream yet."""
    path = Path(options.model)
    if path.suffix.lower() == ".safetensors" or any(path.glob("*.safetensors")):
        return compress_model(options)
    try:
        model = open_model(options.model)
    except FormatError:
        from nnguard._models.sources import MODEL_SUFFIXES

        if path.suffix.lower() in MODEL_SUFFIXES:
            return compress_model(options)
        raise
    if has_settings(options):
        raise click.UsageError(f"{path} is compressed already: leave out the options for coding")
    return model


def _warn_of_many(weights: int) -> None:
    """Say what it costs that there are no small tensors for a signature."""
    if weights > _MANY_WEIGHTS:
        warn(
            f"no small tensors for the signature: every verification will decode {weights:,} "
            f"weights, and the file grows by some {weights // 8:,} bytes"
        )
